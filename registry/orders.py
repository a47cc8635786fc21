"""What a user may order for a task or a whole array, by whichever way in; one verb each.

Each raises Problem `wrong_state` with a sentence if the state does not allow it. The caller
dispatches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction

from registry import arrays, broker, cancellation, dependencies, store, trees
from registry.errors import Problem
from registry.kinds import KINDS
from registry.locks import lock_until_commit
from registry.models import Stale, Task
from registry.states import FINAL, LIVE, State

LIMITS = ("time_limit", "soft_time_limit", "hang_after")
NO_CHECKPOINT = (
    "Task {} is a script, which keeps no checkpoint to go on from, so it cannot be paused;"
    " cancel it, or let it run."
)


def cancel(task: Task) -> None:
    """Cancel it, or ask its supervisor to; once more does nothing."""
    try:
        if task.state != State.CANCELLED:
            cancellation.cancel(task)
    except Stale:
        if _state(task) != State.CANCELLED:
            raise _wrong(task, "cancelled") from None


def pause(task: Task) -> None:
    """Ask it to stop at a checkpoint; of an array what waits is held as well."""
    kind = KINDS[task.kind]
    if not kind.is_repeatable and task.state in LIVE:
        raise Problem("wrong_state", NO_CHECKPOINT.format(task.pk))
    asked = _once(task, "paused", _pause_array if task.is_head else _pause)
    for one in asked:
        broker.revoke(one)


def resume(task: Task) -> None:
    _once(task, "resumed", arrays.resume if task.is_head else Task.resume)


def retry(task: Task, *, start_over: bool = False) -> None:
    """Begin what failed or was cancelled again; of an array each such element."""

    def again(task: Task) -> None:
        verb: Any = arrays.retry if task.is_head else Task.retry
        verb(task, start_over=start_over)
        if start_over:
            points: Any = task.points
            points.all().delete()
            points.model.objects.filter(task__array=task).delete()

    with transaction.atomic():
        _once(task, "retried", again)


def purge(task: Task) -> None:
    """Remove a final task, an array with its elements, and their files after the commit."""
    with transaction.atomic():
        # Before any row: a pass holds it when it takes the rows that are decided here too.
        lock_until_commit("dispatch")
        # Held, so that a retry that comes between keeps its task.
        rows = Task.objects.select_for_update().filter(pk=task.pk, state__in=FINAL)
        if not rows.exists():
            text = f"Task {task.pk} is {_state(task)}; cancel it first."
            raise Problem("wrong_state", text)
        if task.is_head and task.elements.filter(state__in=LIVE).exists():
            text = f"Elements of the array {task.pk} are live; cancel it first."
            raise Problem("wrong_state", text)
        if task.array is not None and task.array.state in LIVE:
            text = f"It is an element of the array {task.array_id}, which is live."
            raise Problem("wrong_state", text)
        gone = [task.pk, *task.elements.values_list("pk", flat=True)]
        dependencies.resolve()  # while it can still be seen how it ended
        rows.delete()
        transaction.on_commit(lambda: _remove_files(gone))


def change(task: Task, changes: Mapping[str, Any]) -> None:
    """Change its name, description, tags, priority or limits; priority and limits of a head are
    its elements' too.

    Raises Problem `wrong_state` for the limits of what runs: others were told when it ends.
    """
    with transaction.atomic():
        row = Task.objects.select_for_update().filter(pk=task.pk).first()
        if row is None:
            raise _gone(task)
        new = {
            name: value
            for name, value in changes.items()
            if getattr(row, name) != value
        }
        if not new:
            return
        _check_limits(row, new)
        Task.objects.filter(pk=row.pk).update(**new)
        if row.is_head and "priority" in new:
            waiting = row.elements.filter(state__in=LIVE)
            waiting.update(priority=new["priority"])
        if row.is_head and (limits := {n: new[n] for n in LIMITS if n in new}):
            row.elements.exclude(state=State.RUNNING).update(**limits)
        said = ", ".join(_told(row, name, new[name]) for name in new)
        row.note("change", f"{said[0].upper()}{said[1:]}.")


def _check_limits(row: Task, new: Mapping[str, Any]) -> None:
    if not new.keys() & set(LIMITS):
        return
    if row.state == State.RUNNING:
        text = "It runs, and its limits stand; cancel it, change them, and retry it."
        raise Problem("wrong_state", text)
    soft = new.get("soft_time_limit", row.soft_time_limit)
    hard = new.get("time_limit", row.time_limit)
    if soft is not None and hard is not None and soft >= hard:
        text = f"must be less than time_limit, which is {hard}"
        raise Problem("invalid", text, errors={"soft_time_limit": [text]})


def _pause(task: Task) -> list[Task]:
    task.request_pause()
    return [task]


def _pause_array(head: Task) -> list[Task]:
    if head.state in LIVE and head.dependencies.exclude(met=True).exists():
        text = "The array has not begun: it waits for the tasks that it depends on."
        raise Problem("wrong_state", text)
    return arrays.pause(head)


def _once(task: Task, done: str, verb: Callable[[Task], Any]) -> Any:
    try:
        return verb(task)
    except Stale:
        raise _wrong(task, done) from None


def _wrong(task: Task, done: str) -> Problem:
    text = f"Task {task.pk} is {_state(task)} and cannot be {done}."
    return Problem("wrong_state", text)


def _state(task: Task) -> str:
    """What it is now. Raises Problem `not_found`."""
    state = Task.objects.filter(pk=task.pk).values_list("state", flat=True).first()
    if state is None:
        raise _gone(task)
    return state


def _gone(task: Task) -> Problem:
    return Problem("not_found", f"Task {task.pk} is not there any more.")


def _told(row: Task, name: str, value: Any) -> str:
    if name == "priority":
        return f"priority {row.priority} -> {value}"
    if name in LIMITS:
        return f"{name} {_seconds(getattr(row, name))} -> {_seconds(value)}"
    what = "other" if name == "tags" else "another"
    return f"{what} {name}" if value else f"no {name}"


def _seconds(value: int | None) -> str:
    return "none" if value is None else f"{value} s"


def _remove_files(tasks: list[int]) -> None:
    for pk in tasks:
        trees.remove(store.task_path(pk))
