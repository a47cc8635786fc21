"""The files that a task leaves, by REST."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rest_framework.test import APIClient

from registry import store
from registry.models import Task

pytestmark = pytest.mark.django_db


@pytest.fixture
def home(submit: Callable[..., Task]) -> Path:
    path = store.task_path(submit(kind="script").pk) / "files"
    (path / "a" / "b").mkdir(parents=True)
    (path / "a" / "b" / "c d.txt").write_text("deep")
    (path / "top.txt").write_text("top")
    (path / "link").symlink_to("/etc/passwd")
    (path / "out").symlink_to("/etc")
    return path


def address(home: Path, name: str = "") -> str:
    return f"/api/v1/tasks/{home.parent.name}/files{name}"


def test_nested_files_are_listed_and_links_are_not(home: Path, api: APIClient) -> None:
    rows = api.get(address(home)).json()["results"]
    assert rows == [
        {"name": "top.txt", "size": 3},
        {"name": "a/b/c d.txt", "size": 4},
    ]


def test_a_nested_file_comes_by_its_path(home: Path, api: APIClient) -> None:
    answer = api.get(address(home, "/a/b/c%20d.txt"))
    assert b"".join(answer.streaming_content) == b"deep"  # type: ignore[attr-defined]
    assert 'filename="c d.txt"' in answer["Content-Disposition"]


@pytest.mark.parametrize(
    "name",
    ["/link", "/out/passwd", "/../log.txt", "/a/../../log.txt", "/%2e%2e/log.txt",
     "//etc/passwd", "/a/b", "/none", "/a%5Cb", "/a%0Ab"],
)  # fmt: skip
def test_nothing_else_comes(home: Path, api: APIClient, name: str) -> None:
    (home.parent / "log.txt").write_text("log")
    assert api.get(address(home, name)).status_code == 404
