"""Probes: tasks that prove that a lane works, from the row to a worker's thread and back.

They hold nothing and end at once, so many are claimed and ended together, by the same guards
and with the same events as any other task.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction

from registry import clock, rows
from registry.models import Attempt, Node, Stale, Task, TaskEvent, Use
from registry.states import Move, State


def submit(owner: Any, lane: str, count: int = 1) -> list[Task]:
    """Accept so many probes of a lane; their rows and first events in one transaction."""
    moment = clock.now()
    fields = {"kind": "probe", "lane": lane, "owner": owner, "cpus": 0}
    with transaction.atomic():
        tasks = [
            Task(state=State.PENDING, created_at=moment, max_retries=3, **fields)
            for _ in range(count)
        ]
        rows.insert_all(tasks)
        _note(tasks, "submit", moment)
    return tasks


def run(node: Node, attempts: Iterable[Sequence[int]]) -> int:
    """See those (task, attempt) through that are still this node's; how many."""
    tasks = start_all(node, attempts)
    complete_all(tasks, {"node": node.name, "pid": node.pid})
    return len(tasks)


def start_all(node: Node, attempts: Iterable[Sequence[int]]) -> list[Task]:
    """The verb `start` for many: what another delivery or a wish was quicker for is left out."""
    asked = {(task, attempt) for task, attempt in attempts}
    mine = type(node).objects.filter(pk=node.pk, incarnation=node.incarnation)
    with transaction.atomic():
        moment = clock.now()
        held = _held([task for task, _ in asked], Move.START).filter(node__in=mine)
        tasks = [task for task in held if (task.pk, task.attempt) in asked]
        changes = {"state": Move.START.target, "started_at": moment, "beat_at": moment}
        _move(tasks, Move.START, changes)
        _attempts(tasks).update(started_at=moment, incarnation=node.incarnation)
        _note(tasks, "start", moment)
    return tasks


def complete_all(tasks: Sequence[Task], result: dict[str, Any]) -> None:
    """The verb `complete` for many; those whose owner asked to cancel are cancelled."""
    known = {task.pk: task.attempt for task in tasks}
    with transaction.atomic():
        moment = clock.now()
        held = _held(known, Move.COMPLETE)
        mine = [task for task in held if task.attempt == known[task.pk]]
        done = [task for task in mine if task.cancel_requested_at is None]
        changes = {"state": Move.COMPLETE.target, "finished_at": moment}
        changes |= {"result": result, "pause_requested_at": None}
        changes |= {"release_requested_at": None, "held": False}
        _move(done, Move.COMPLETE, changes)
        _attempts(done).update(finished_at=moment, outcome=Move.COMPLETE.target)
        _note(done, "complete", moment)
        for owner in {task.owner_id for task in done if task.cpus}:
            _count_use(owner, [task for task in done if task.owner_id == owner], moment)
    for task in mine:
        if task.cancel_requested_at is not None:
            try:
                task.cancel()
            except Stale:
                continue


def _held(keys: Iterable[int], move: Move) -> Any:
    """Those of them in a state that the move may leave, locked to the end of the transaction."""
    found = Task.objects.filter(pk__in=list(keys), state__in=move.sources)
    held = found.select_for_update(of=("self",)).order_by("pk")
    return held.only("attempt", "owner_id", "cpus", "started_at", "cancel_requested_at")


def _move(tasks: Sequence[Task], move: Move, changes: dict[str, Any]) -> None:
    for attempt in {task.attempt for task in tasks}:
        keys = [task.pk for task in tasks if task.attempt == attempt]
        same = Task.objects.filter(pk__in=keys, attempt=attempt, state__in=move.sources)
        assert same.update(**changes) == len(keys)  # they are held
    for task in tasks:
        for name, value in changes.items():
            setattr(task, name, value)


def _attempts(tasks: Sequence[Task]) -> Any:
    keys = {(task.pk, task.attempt) for task in tasks}
    numbers = {number for _, number in keys}
    found = Attempt.objects.filter(
        task__in=[task.pk for task in tasks], number__in=numbers, finished_at=None
    )
    # Several numbers at once are rare; then each is matched with its own task.
    if len(numbers) > 1:
        pairs = found.values_list("pk", "task", "number")
        return Attempt.objects.filter(
            pk__in=[pk for pk, task, number in pairs if (task, number) in keys]
        )
    return found


def _count_use(owner: int, tasks: Sequence[Task], moment: datetime.datetime) -> None:
    seconds = sum(
        max((moment - task.started_at).total_seconds(), 0.0) * task.cpus
        for task in tasks
        if task.started_at
    )
    Use.add(owner, seconds, moment)


def _note(tasks: Sequence[Task], verb: str, moment: datetime.datetime) -> None:
    rows.insert_all(
        [
            TaskEvent(
                task_id=task.pk,
                at=moment,
                verb=verb,
                state=task.state,
                attempt=task.attempt,
            )
            for task in tasks
        ]
    )
