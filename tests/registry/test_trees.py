"""Whatever somebody made of a directory, it goes when its task does."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import trees

NOBODY = 65534


def deep(root: Path, levels: int) -> None:
    """A file below so many directories, more than the stack, or a path, could."""
    root.mkdir()
    inside = os.open(root, trees.DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=inside)
        further = os.open("d", trees.DIRECTORY, dir_fd=inside)
        os.close(inside)
        inside = further
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inside))
    os.close(inside)


@pytest.fixture
def own() -> Iterator[Path]:
    """A directory of a user whose rights count, as root's do not."""
    root = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(root, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield root
    finally:
        if is_root:
            os.seteuid(0)
        shutil.rmtree(root, ignore_errors=True)


def test_a_directory_deeper_than_the_stack_goes(tmp_path: Path) -> None:
    deep(tmp_path / "a", 3000)
    trees.remove(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_what_its_maker_made_read_only_goes(own: Path) -> None:
    inner = own / "a" / "b" / "c"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    (own / "a" / "shut").mkdir(mode=0)
    for path in (inner, inner.parent, own / "a"):
        path.chmod(0o500)
    trees.remove(own / "a")
    assert list(own.iterdir()) == []


def test_a_link_goes_without_what_it_names(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    deep(tmp_path / "a", 1500)
    (tmp_path / "a" / "link").symlink_to(outside)
    (tmp_path / "link").symlink_to(outside)
    trees.remove(tmp_path / "a")
    trees.remove(tmp_path / "link")
    assert (outside / "precious").exists()
    assert not (tmp_path / "a").exists()


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    trees.remove(tmp_path / "gone")
