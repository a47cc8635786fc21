"""Where a script and what it writes stand: while it waits, runs, and after its end."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from registry import jail, store
from registry.models import Task

LISTED = 1000  # names in a task's result
TAIL = 64 * 1024  # bytes


def script_path(task: Task) -> Path:
    """The whole text, where it is too long for the row; elements share their head's."""
    return store.task_path(task.array_id or task.pk) / "script"


def attempt_path(task: Task) -> Path:
    return store.task_path(task.pk) / f"attempt-{task.attempt}"


def work_path(task: Task) -> Path:
    """Its working directory; what is left of it, once its last attempt is over."""
    live = attempt_path(task) / "work"
    return live if live.is_dir() else store.task_path(task.pk) / "files"


def output_names(task: Task) -> tuple[str, str]:
    """The files of its standard output and error, with Slurm's patterns filled in."""
    asked = task.asked
    stdout = asked.get("stdout") or "stdout"
    stderr = asked.get("stderr") or (stdout if asked.get("stdout") else "stderr")
    return _filled(stdout, task), _filled(stderr, task)


def tail(task: Task, name: str) -> str:
    """The end of an output file as text; empty where there is none."""
    root = work_path(task)
    descriptor = jail.open_file(root, name) if root.is_dir() else None
    if descriptor is None:
        return ""
    with open(descriptor, "rb") as file:  # noqa: PTH123
        size = os.fstat(descriptor).st_size
        file.seek(max(0, size - TAIL))
        content = file.read(TAIL)
    if size > TAIL:  # not from the middle of a character
        content = content.lstrip(bytes(range(0x80, 0xC0)))
    return content.decode("utf-8", "replace").replace("\x00", "\ufffd")


def _filled(pattern: str, task: Task) -> str:
    """%j the task's id, %A its array's, %a its index, %x its name, %u its owner."""
    words: dict[str, Any] = {
        "j": task.pk,
        "A": task.array_id or task.pk,
        "a": task.array_index or 0,
        "x": task.name or "script",
        "u": task.owner.username,
        "%": "%",
    }

    def word(match: re.Match[str]) -> str:
        text = str(words.get(match[1], match[0]))
        return re.sub(r"[^\w.%+=@\[\]-]", "_", text)[:100]

    return re.sub(r"%(.)", word, pattern)
