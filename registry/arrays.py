"""Arrays: many tasks that differ by an index, and one row that stands for them all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Count

from registry import clock
from registry.errors import Problem
from registry.models import Stale, Task, TaskEvent
from registry.models.wishes import as_new
from registry.states import FINAL, LIVE, PLACED, Move, State

MOST = 10_000  # elements of one array
LARGEST = 1_000_000  # index
PAUSED = "Its array was paused on request; resume it to let it go on."
PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?\Z")


@dataclass(frozen=True)
class Indexes:
    """The indexes of an array, ascending, and how many elements may be placed at a time."""

    values: tuple[int, ...]
    limit: int | None = None


def parse(text: str) -> Indexes:
    """Read Slurm's form: `0-99`, `1,5,7`, `0-20:5`, and `%4` for four at a time.

    Raises Problem `invalid`.
    """
    listed, percent, bound = text.replace(" ", "").partition("%")
    limit = None
    if percent:
        if not re.fullmatch(r"[0-9]{1,9}", bound) or int(bound) == 0:
            raise _wrong("after % stands how many may run at a time, 1 to 999999999")
        limit = int(bound)
    found: set[int] = set()
    for part in listed.split(","):
        match = PART.match(part)
        if match is None:
            raise _wrong("write it like 0-99%4, 1,3,5 or 0-20:5")
        first, last = int(match[1]), int(match[2] or match[1])
        step = int(match[3] or 1)
        if last < first or step == 0:
            raise _wrong(f"{part[:40]} has no index in it")
        if last > LARGEST:
            raise _wrong(f"the largest index is {LARGEST}")
        if (last - first) // step >= MOST:
            raise _wrong(f"at most {MOST} elements")
        found.update(range(first, last + 1, step))
        if len(found) > MOST:
            raise _wrong(f"at most {MOST} elements")
    return Indexes(tuple(sorted(found)), limit)


def submit(indexes: Indexes, **fields: Any) -> Task:
    """Accept an array in one transaction; its head, whose `elements` are the tasks.

    What the elements have in common (`params`) stands in the head alone.
    """
    name = fields.pop("name", "")
    with transaction.atomic():
        head = Task.objects.submit(
            name=name,
            array_size=len(indexes.values),
            array_limit=indexes.limit,
            **fields,
        )
        common = {**fields, "params": {}}
        common |= {"max_retries": head.max_retries, "expected": head.expected}
        if indexes.limit:
            text = f"Its array runs at most {indexes.limit} of its tasks at a time."
            common["waiting_for"] = [text]
        Task.objects.bulk_create(
            [
                Task(
                    name=f"{name}[{index}]"[:200],
                    state=State.PENDING,
                    created_at=head.created_at,
                    array=head,
                    array_index=index,
                    **common,
                )
                for index in indexes.values
            ],
            batch_size=500,
        )
        _note(head.elements.all(), "submit")
    return head


def settle() -> None:
    """Bring each head to what its elements tell."""
    open_ = Task.objects.filter(array_size__isnull=False, finished_at=None)
    heads = open_.order_by("pk").in_bulk()
    if not heads:
        return
    counted: dict[int, Counter[str]] = {pk: Counter() for pk in heads}
    rows = Task.objects.filter(array__in=heads).order_by().values_list("array", "state")
    for pk, state, count in rows.annotate(count=Count("pk")):
        assert pk is not None
        counted[pk][state] = count
    for pk, head in heads.items():
        try:
            if any(counted[pk][state] for state in LIVE):
                _settle(head, counted[pk])
            else:
                settle_one(head)
        except Stale:  # another pass was quicker
            continue


def cancel(head: Task) -> list[Task]:
    """Cancel all that waits, and ask for the rest; the elements whose workers should be told."""
    with transaction.atomic():
        if not head.elements.exclude(state__in=FINAL).exists():
            raise Stale(f"task {head.pk}: all its elements have ended")
        head.request_cancel()
        _end_waiting(
            head,
            State.CANCELLED,
            "request_cancel",
            "cancelled_by_user",
            "Cancelled with its array; nothing was running.",
            cancel_requested_at=clock.now(),
        )
        asked = []
        for element in head.elements.filter(state__in=LIVE).order_by("pk"):
            try:
                element.request_cancel()
                asked.append(element)
            except Stale:
                continue
        settle_one(head)
    return asked


def retry(head: Task, *, start_over: bool = False) -> None:
    """Begin each failed or cancelled element again."""
    with transaction.atomic():
        head.retry(start_over=start_over)
        ended = head.elements.filter(state__in=Move.RETRY.sources).order_by("pk")
        keys = list(ended.select_for_update().values_list("pk", flat=True))
        ended.update(**as_new(start_over=start_over, held=head.held))
        _note(head.elements.all(), "retry", only=set(keys))


def pause(head: Task) -> list[Task]:
    """Hold what waits, and ask the rest to pause; the elements whose workers should be told.

    Raises Stale if nothing of it runs or waits in line.
    """
    with transaction.atomic():
        head.hold()
        waiting = head.elements.filter(state=State.PENDING, held=False)
        count = waiting.update(held=True, waiting_for=[PAUSED], estimated_start=None)
        asked = []
        for element in head.elements.filter(state=State.RUNNING).order_by("pk"):
            try:
                element.request_pause()
                asked.append(element)
            except Stale:
                continue
        if not (count or asked):
            raise Stale(f"task {head.pk}: nothing to pause")
        Task.objects.filter(pk=head.pk).update(held=True, waiting_for=[PAUSED])
        told = f"{len(asked)} elements are asked to pause, and {count} wait."
        head.refresh_from_db()
        head.note("request_pause", told)
    return asked


def resume(head: Task) -> None:
    """Let go on what `pause` stopped. Raises Stale if nothing is."""
    with transaction.atomic():
        head.hold()
        count = 0
        for element in head.elements.filter(state=State.PAUSED).order_by("pk"):
            try:
                element.resume()
                count += 1
            except Stale:
                continue
        if head.held and not head.dependencies.exclude(met=True).exists():
            held = head.elements.filter(held=True, state=State.PENDING)
            count += held.update(held=False, waiting_for=[])
            Task.objects.filter(pk=head.pk).update(held=False, waiting_for=[])
        if not count:
            raise Stale(f"task {head.pk}: nothing to resume")
        head.refresh_from_db()
        head.note("resume")


def forgo(head: Task, reason: str, message: str) -> None:
    """End a head and its elements, none of which was placed."""
    with transaction.atomic():
        _end_waiting(head, State.FAILED, "forgo", reason, message)
        head.settle(State.FAILED, reason, message)


def settle_one(head: Task) -> None:
    """Bring this head to what its elements tell; held, so that none is retried meanwhile."""
    with transaction.atomic():
        head.hold()
        counts = Counter(head.elements.values_list("state", flat=True))
        _settle(head, counts)


def _settle(head: Task, counts: Counter[str]) -> None:
    if head.state == State.PENDING and any(counts[state] for state in PLACED):
        head.begin()
    total = sum(counts.values())
    ended = sum(counts[state] for state in FINAL)
    progress: dict[str, Any] = {name: counts[name] for name in State.values}
    progress["fraction"] = ended / total if total else 1.0
    if ended < total:
        if progress != head.progress:
            Task.objects.filter(pk=head.pk).update(progress=progress)
        return
    told = {"progress": progress, "result": {name: counts[name] for name in FINAL}}
    was_cancelled = head.cancel_requested_at and counts[State.COMPLETED] < total
    if counts[State.FAILED] and not was_cancelled:
        first = head.elements.filter(state=State.FAILED).order_by("pk")[0]
        message = (
            f"{counts[State.FAILED]} of {total} elements failed; the first is"
            f" task {first.pk}: {first.message}"
        )
        head.settle(State.FAILED, first.reason, message, **told)
    elif was_cancelled or counts[State.CANCELLED]:
        message = f"{counts[State.CANCELLED]} of {total} elements were cancelled"
        message += f", {failed} failed." if (failed := counts[State.FAILED]) else "."
        head.settle(State.CANCELLED, "cancelled_by_user", message, **told)
    else:
        head.settle(State.COMPLETED, "", "", **told)


def _end_waiting(
    head: Task, state: State, verb: str, reason: str, message: str, **more: Any
) -> None:
    """End all elements that wait, at once."""
    waiting = head.elements.filter(state=State.PENDING).order_by("pk")
    keys = list(waiting.select_for_update().values_list("pk", flat=True))
    waiting.update(
        state=state,
        reason=reason,
        message=message,
        finished_at=clock.now(),
        waiting_for=[],
        held=False,
        **more,
    )
    ended = head.elements.filter(state=state)
    _note(ended, verb, only=set(keys), reason=reason, message=message)


def _note(
    rows: Any, verb: str, *, only: Container[int] | None = None, **told: str
) -> None:
    moment = clock.now()
    TaskEvent.objects.bulk_create(
        [
            TaskEvent(
                task_id=pk, at=moment, verb=verb, state=state, attempt=attempt, **told
            )
            for pk, state, attempt in rows.values_list("pk", "state", "attempt")
            if only is None or pk in only
        ],
        batch_size=500,
    )


def _wrong(text: str) -> Problem:
    return Problem("invalid", f"array: {text}.", errors={"array": [text]})
