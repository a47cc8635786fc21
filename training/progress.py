"""A training's progress on a terminal, or as plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from registry.models import Task


@contextlib.contextmanager
def shown_while(out: Any, *, quiet: bool = False) -> Iterator[Callable[[Task], None]]:
    """Gives a function that shows the task as it is now."""
    if quiet:
        yield lambda task: None
    elif out.isatty():
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[told]}"), TimeElapsedColumn(),
        )  # fmt: skip
        with bar:
            row = bar.add_task("pending", total=1.0, told="")
            yield lambda task: bar.update(
                row,
                description=task.state,
                completed=task.progress.get("fraction") or 0.0,
                told=told(task),
            )
    else:
        last = [""]

        def line(task: Task) -> None:
            percent = 10 * int(10 * (task.progress.get("fraction") or 0))
            text = f"{task.state} {task.progress.get('stage', '')} {percent} %"
            if text != last[0]:
                last[0] = text
                out.write(f"{text} {told(task)}".strip())

        yield line


def told(task: Task) -> str:
    """The loss, the remaining time, or why it waits."""
    if task.waiting_for and task.state == "pending":
        return " ".join(task.waiting_for)
    parts = []
    loss = task.metrics.get("loss")
    if isinstance(loss, int | float):
        parts.append(f"loss {loss:.4g}")
    eta = task.progress.get("eta")
    if isinstance(eta, int | float):
        parts.append(f"{eta:.0f} s left")
    return ", ".join(parts)
