"""The lanes that tasks wait in, and an operator's word on each."""

from __future__ import annotations

import datetime
from typing import Any

from registry import clock
from registry.kinds import KINDS
from registry.models import Lane, Node, Task
from registry.states import State

NAMES = sorted({lane for kind in KINDS.values() for lane in kind.lanes})
NEXT = 10  # tasks shown of each line


def pause(name: str, note: str = "") -> None:
    """Let nothing begin on the lane; what runs goes on. Once more changes the note alone."""
    row, is_new = Lane.objects.get_or_create(
        name=name, defaults={"paused_at": clock.now(), "note": note}
    )
    if not is_new:
        since = row.paused_at or clock.now()
        Lane.objects.filter(pk=name).update(paused_at=since, note=note)


def resume(name: str) -> None:
    Lane.objects.filter(pk=name).update(paused_at=None, note="")


def shown(name: str) -> dict[str, Any]:
    """The lane with its nodes that are up, and how many of its tasks wait, are held and run."""
    moment = clock.now()
    row = Lane.objects.filter(pk=name).first() or Lane(name=name)
    tasks = Task.objects.filter(lane=name, array_size=None)
    pending = tasks.filter(state=State.PENDING)
    return {
        "name": name,
        "paused_at": row.paused_at,
        "note": row.note,
        "waiting": pending.filter(held=False).count(),
        "held": pending.filter(held=True).count(),
        "running": tasks.placed().count(),
        "nodes": [node.name for node in Node.objects.up(moment).filter(lane=name)],
        "next_in_line": [_next(task) for task in _line(name, moment)],
    }


def _line(name: str, moment: datetime.datetime) -> Any:
    return Task.objects.in_line(moment).filter(lane=name)[:NEXT]


def _next(task: Task) -> dict[str, Any]:
    return {
        "id": str(task.pk),
        "priority": task.priority,
        "estimated_start": task.estimated_start,
    }
