"""What a task waits for: the ends of other tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import IntegrityError
from django.db.models import Q, QuerySet

from registry.errors import Problem
from registry.locks import check_references
from registry.models import Condition, Dependency, Stale, Task
from registry.states import FINAL, State

MOST = 1000  # tasks that one may depend on
TOLD = 5  # of them named in a sentence

Wanted = Sequence[tuple[Condition, Task]]
DONE = {"afterok": "complete", "afterany": "end", "afternotok": "fail or be cancelled"}


def check(user: Any, asked: Mapping[str, Sequence[Any]]) -> Wanted:
    """The tasks asked for, by condition, each the user's own to see.

    A task can only depend on tasks that are there, and never changes what it depends on, so there
    is no circle. Raises Problem `unknown_task` or `invalid` with the fields.
    """
    errors: dict[str, list[str]] = {}
    wanted: dict[tuple[Condition, int], str] = {}
    for name, ids in asked.items():
        if name not in Condition.values:
            known = ", ".join(Condition.values)
            errors[f"depends_on.{name[:60]}"] = [f"unknown; there are {known}"]
            continue
        for one in ids:
            text = str(one)
            if isinstance(one, bool) or not _is_id(text):
                errors[f"depends_on.{name}"] = [f"{text[:60]!r} is not a task's id"]
            else:
                wanted[Condition(name), int(text)] = text
    if len(wanted) > MOST:
        errors["depends_on"] = [f"at most {MOST} tasks, not {len(wanted)}"]
    if errors:
        raise Problem("invalid", "depends_on is not valid.", errors=errors)
    if not wanted:
        return []
    found = Task.objects.visible_to(user).in_bulk([pk for _, pk in wanted])
    for (condition, pk), text in wanted.items():
        if pk not in found:
            field = f"depends_on.{condition.value}"
            errors.setdefault(field, []).append(f"There is no task {text}.")
    if errors:
        text = "It depends on tasks that are not there, or not yours."
        raise Problem("unknown_task", text, errors=errors)
    return [(condition, found[pk]) for condition, pk in wanted]


def attach(task: Task, wanted: Wanted) -> None:
    """Hold the new task until those have ended; in the transaction that made it.

    Raises Problem `unknown_task` if one was removed since it was looked up.
    """
    Dependency.objects.bulk_create(
        Dependency(task=task, on=other, on_number=other.pk, condition=condition)
        for condition, other in wanted
    )
    try:
        check_references()
    except IntegrityError:
        text = "A task that it depends on has just been removed."
        raise Problem("unknown_task", text, errors={"depends_on": [text]}) from None
    Task.objects.filter(pk=task.pk).update(waiting_for=sentences(wanted_of(task)))


def wanted_of(task: Task) -> list[Dependency]:
    """What it still waits for."""
    return list(task.dependencies.filter(met=None))


def sentences(rows: Iterable[Dependency]) -> list[str]:
    """What is waited for, in words."""
    rows = list(rows)
    told = [
        f"Waits for task {one.on_number} to {DONE[one.condition]} ({one.condition})."
        for one in rows[:TOLD]
    ]
    rest = len(rows) - TOLD
    return told + [f"And for {rest} more tasks."] * (rest > 0)


def resolve(task: Task | None = None) -> int:
    """Let go the tasks whose wishes are met, and end those whose never can be, or of them one
    alone; how many.

    What ends here may decide others in turn, so it goes on until nothing is decided.
    """
    count = 0
    open_ = Dependency.objects.filter(met=None, **({"task": task} if task else {}))
    while decided := _decide(open_):
        for task in Task.objects.filter(
            pk__in=decided, held=True, state=State.PENDING
        ).order_by("pk"):
            count += _apply(task)
    return count


def _decide(open_: QuerySet[Dependency]) -> set[int]:
    """Note which of the open dependencies are met by now and which never will be."""
    ended = Q(on__state__in=FINAL) | Q(on=None)
    rows = open_.filter(ended).values_list("pk", "task", "condition", "on__state")
    verdicts: dict[bool, list[int]] = defaultdict(list)
    tasks = set()
    for pk, task, condition, state in rows:
        # One that was deleted before anybody looked had been final.
        met = Condition(condition).is_met_by(state or State.CANCELLED)
        verdicts[met].append(pk)
        tasks.add(task)
    for met, keys in verdicts.items():
        for part in _parts(keys):
            Dependency.objects.filter(pk__in=part, met=None).update(met=met)
    return tasks


def _apply(task: Task) -> int:
    rows = list(task.dependencies.exclude(met=True))
    broken = next((one for one in rows if one.met is False), None)
    try:
        if broken is not None:
            _forgo(task, broken)
        elif not rows:
            task.let_go()
        else:
            Task.objects.filter(pk=task.pk, state=State.PENDING).update(
                waiting_for=sentences(rows)
            )
            return 0
    except Stale:  # cancelled since the look
        return 0
    return 1


def _forgo(task: Task, broken: Dependency) -> None:
    state = Task.objects.filter(pk=broken.on_number).values_list("state", flat=True)
    became = state.first() or "gone"
    message = (
        f"Task {broken.on_number} is {became}, but had to"
        f" {DONE[broken.condition]} ({broken.condition})."
    )
    if task.is_head:
        from registry import arrays

        arrays.forgo(task, "dependency_failed", message)
    else:
        task.forgo("dependency_failed", message)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _parts(keys: Sequence[int], size: int = 500) -> Iterable[Sequence[int]]:
    return (keys[at : at + size] for at in range(0, len(keys), size))
