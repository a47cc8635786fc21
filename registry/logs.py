"""A task's log by byte offsets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry import store
from registry.errors import Problem
from registry.models import Task
from registry.states import FINAL, State

DEFAULT = 64 * 1024  # bytes of one answer
MOST = 1024**2
OF_ELEMENTS = (
    "An array writes no log itself; its elements do: GET /api/v1/tasks?array={}."
)


def path(task: Task) -> Path:
    return store.task_path(task.pk) / "log.txt"


def read(task: Task, query: Mapping[str, str]) -> dict[str, Any]:
    """A piece of the log as text, with where it begins and ends in bytes."""
    file = path(task)
    size = file.stat().st_size if file.exists() else 0
    limit = min(_number(query, "limit", DEFAULT), MOST)
    if "tail" in query:
        limit = min(_number(query, "tail", DEFAULT), MOST)
        offset = max(0, size - limit)
    else:
        offset = min(_number(query, "offset", 0), size)
    content = b""
    if size > offset:
        with file.open("rb") as opened:
            opened.seek(offset)
            content = whole_characters(
                opened.read(limit), is_end=offset + limit >= size
            )
    after = offset + len(content)
    over = task.state in FINAL or task.state == State.PAUSED
    hint = {"hint": OF_ELEMENTS.format(task.pk)} if task.is_head else {}
    return {
        "text": content.decode("utf-8", "replace"),
        "offset": offset,
        "next_offset": after,
        "size": size,
        "complete": over and after >= size,
        **hint,
    }


def whole_characters(content: bytes, *, is_end: bool) -> bytes:
    """The bytes without a character that was cut at the end, unless nothing follows."""
    if is_end:
        return content
    for back in range(1, min(4, len(content))):
        lead = content[-back]
        if lead & 0xC0 == 0xC0:
            length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return content[:-back] if length > back else content
        if lead < 0x80:
            break
    return content


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise Problem(
            "invalid",
            f"{name} must be a whole number of bytes.",
            errors={name: ["must be a whole number, 0 or more"]},
        )
    return int(text)
