"""Why a task waits, as it is told wherever tasks are shown."""

from __future__ import annotations

import datetime

from registry import dependencies, rows
from registry.models import Task
from registry.states import State

MOST = 500  # tasks before another that are counted
# Asked at each submit.
BEFORE = """
    SELECT COUNT(*) FROM (
        SELECT 1 FROM registry_task
        WHERE lane = %s AND state = 'pending' AND NOT held AND array_size IS NULL
          AND (priority > %s OR (priority = %s AND id < %s))
        LIMIT %s
    ) AS line
"""
NEW = "It was accepted lately; the next pass over the line will say why it waits."


def reasons(task: Task, moment: datetime.datetime, *, look: bool = False) -> list[str]:
    """All reasons as sentences; empty if it does not wait.

    They are what the last pass noted; for what no pass has reached `look` counts the line.
    """
    is_stopped = task.is_head and task.held  # a paused array may have begun
    if task.state != State.PENDING and not is_stopped:
        return []
    if task.not_before and task.not_before > moment:
        return [f"Waits until {task.not_before:%H:%M:%S} UTC before the next try."]
    if task.waiting_for:
        return list(task.waiting_for)
    if task.held:
        open_ = [one for one in task.dependencies.all() if one.met is not True]
        return dependencies.sentences(open_) or ["It waits with its array."]
    return _in_line(task) if look else [NEW]


def start(task: Task) -> str:
    """When it will begin, as far as that can be told; else empty."""
    if task.state != State.PENDING or task.estimated_start is None:
        return ""
    return f"starts about {task.estimated_start:%H:%M} UTC"


def _in_line(task: Task) -> list[str]:
    if task.is_head:
        waiting = task.elements.filter(state=State.PENDING).order_by("pk")
        first = waiting.exclude(waiting_for=[]).first()
        return list(first.waiting_for) if first else [NEW]
    before = task.lane, task.priority, task.priority, task.pk, MOST + 1
    if count := rows.number(BEFORE, *before):
        one = count == 1
        text = f"{count} task{'' if one else 's'} of its lane"
        if count > MOST:
            text = f"More than {MOST} tasks of its lane"
        return [f"{text} {'is' if one else 'are'} before it in the line."]
    return [NEW]
