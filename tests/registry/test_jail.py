"""Names that users give stay inside one directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry import jail, trees
from tests.registry.test_trees import deep

BAD = ["", "/a", "~/a", "..", "../a", "a/../b", "a//b", "a/", "./a", "a\nb", "a\\b",
       "a\x00b", "x" * 201, "/".join("a" * 21)]  # fmt: skip


@pytest.mark.parametrize("name", BAD, ids=repr)
def test_a_bad_name_is_told_and_opens_nothing(tmp_path: Path, name: str) -> None:
    assert jail.wrong(name)
    with pytest.raises(ValueError, match="must"):
        jail.create(tmp_path, name)
    assert jail.open_file(tmp_path, name) is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_made_with_its_directories_and_read(tmp_path: Path) -> None:
    descriptor = jail.create(tmp_path, "a/b/c.txt")
    os.write(descriptor, b"x")
    os.close(descriptor)
    found = jail.open_file(tmp_path, "a/b/c.txt")
    assert found is not None
    assert os.read(found, 9) == b"x"
    os.close(found)
    assert dict(jail.walk(tmp_path, 9)) == {"a/b/c.txt": 1}


@pytest.mark.parametrize("name", ["link", "dir/secret", "sub/dir/secret"])
def test_no_link_is_followed_to_read_or_to_write(tmp_path: Path, name: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("hidden")
    (root / "link").symlink_to(outside / "secret")
    (root / "dir").symlink_to(outside)
    (root / "sub" / "dir").symlink_to(outside)
    assert jail.open_file(root, name) is None
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        jail.create(root, name)
    assert (outside / "secret").read_text() == "hidden"
    assert list(jail.walk(root, 9)) == []


def test_what_is_no_regular_file_is_not_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    assert jail.open_file(tmp_path, "pipe") is None
    assert jail.open_file(tmp_path, "directory") is None
    assert list(jail.walk(tmp_path, 9)) == []


def test_a_walk_ends_at_its_bound(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert [name for name, _ in jail.walk(tmp_path, 3)] == ["0", "1", "2"]


def test_a_walk_passes_over_what_is_deeper_than_a_name_may_be(tmp_path: Path) -> None:
    allowed = "/".join("a" * (jail.DEEPEST - 1))
    (tmp_path / allowed / "b").mkdir(parents=True)
    for name in (f"{allowed}/file", f"{allowed}/b/file"):
        (tmp_path / name).touch()
    deep(tmp_path / "deep", 1500)
    assert [name for name, _ in jail.walk(tmp_path, 9)] == [f"{allowed}/file"]
    trees.remove(tmp_path / "deep")
