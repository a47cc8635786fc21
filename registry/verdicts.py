"""Why each task waits and when it may start, written to the rows that say otherwise."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Mapping

from django.db.models import Case, DateTimeField, Value, When
from django.db.models.functions import Cast

from registry import rows
from registry.demands import Waiting
from registry.models import Task, TaskEvent
from registry.placement import Plan
from registry.states import State

AT_ONCE = 500  # rows


def write(plan: Plan, waiting: Mapping[int, Waiting], moment: datetime.datetime) -> int:
    """Bring the rows to what the plan says, those with the same words in one; how many.

    Only of tasks that still wait. An array's head says what its first element says.
    """
    reasons: dict[tuple[str, ...], list[int]] = defaultdict(list)
    starts: dict[datetime.datetime | None, list[int]] = defaultdict(list)
    heads: dict[int, int] = {}
    for pk, told in plan.waits.items():
        demand, said, expected = waiting[pk]
        start = _to_minute(plan.starts.get(pk), moment)
        if tuple(told) != said:
            reasons[tuple(told)].append(pk)
        if start != expected:
            starts[start].append(pk)
        if demand.array is not None:
            heads.setdefault(demand.array, pk)
    for head, element in heads.items():
        same = Task.objects.filter(pk=head).values_list(
            "waiting_for", "estimated_start"
        )
        start = _to_minute(plan.starts.get(element), moment)
        for said, expected in same:
            if said != plan.waits[element]:
                reasons[tuple(plan.waits[element])].append(head)
            if start != expected:
                starts[start].append(head)
    changed = {pk for keys in (*reasons.values(), *starts.values()) for pk in keys}
    if not changed:
        return 0
    # What another transaction holds is about to change; waiting for several rows in
    # another order than it takes them would be a deadlock.
    found = Task.objects.filter(pk__in=changed, state=State.PENDING)
    found = found.select_for_update(skip_locked=True)
    free = dict(found.values_list("pk", "attempt"))
    for words, keys in reasons.items():
        _update([pk for pk in keys if pk in free], waiting_for=list(words))
    at = Case(*(When(pk__in=keys, then=Value(start)) for start, keys in starts.items()))
    _update(
        [pk for keys in starts.values() for pk in keys if pk in free],
        # Cast, for PostgreSQL takes a CASE that only says NULL for a text.
        estimated_start=Cast(at, DateTimeField()),
    )
    first = {pk: attempt for pk, attempt in free.items() if _is_first(pk, waiting)}
    _note(first, plan, moment)
    return len(free)


def _is_first(task: int, waiting: Mapping[int, Waiting]) -> bool:
    return task in waiting and not waiting[task].waiting_for


def _note(attempts: Mapping[int, int], plan: Plan, moment: datetime.datetime) -> None:
    """Write into the timeline why each begins to wait; what changes later is streamed."""
    rows.insert_all(
        [
            TaskEvent(
                task_id=pk,
                at=moment,
                verb="wait",
                state=State.PENDING,
                attempt=attempt,
                message=" ".join(plan.waits[pk]),
            )
            for pk, attempt in attempts.items()
            if pk in plan.waits
        ]
    )


def _update(keys: list[int], **changes: object) -> None:
    for at in range(0, len(keys), AT_ONCE):
        part = keys[at : at + AT_ONCE]
        Task.objects.filter(pk__in=part, state=State.PENDING).update(**changes)


def _to_minute(
    seconds: float | None, moment: datetime.datetime
) -> datetime.datetime | None:
    """The next full minute, so that what is still true is not written again."""
    if seconds is None:
        return None
    try:
        at = moment + datetime.timedelta(seconds=round(seconds))
    except OverflowError:
        return None
    at += datetime.timedelta(microseconds=500_000)
    at = at.replace(microsecond=0) + datetime.timedelta(seconds=59)
    return at.replace(second=0)
