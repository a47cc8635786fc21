"""The line as the placement is shown it: who waits, a bounded part of each user's line."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.db.models import Count, QuerySet

from registry.kinds import LANES
from registry.models import Task
from registry.placement import Demand
from registry.resources import Resources
from registry.states import State

LOOK_AT = 200  # waiting tasks of each user on each lane looked at in one pass
OF_A_LEVEL = 20  # of them from each priority below what fills that
LEVELS = 8
MOST = 600  # on each lane, shared between its users
ARRAYS = 50  # arrays with a limit that each user has looked at
FIELDS = (
    "pk", "lane", "owner", "priority", "cpus", "gpus", "memory", "gpu_memory",
    "created_at", "time_limit", "expected", "array", "waiting_for", "estimated_start",
)  # fmt: skip


class Waiting(NamedTuple):
    """A demand, and what its row says by now of why and when."""

    demand: Demand
    waiting_for: list[str]
    estimated_start: datetime.datetime | None


def look(moment: datetime.datetime) -> dict[int, Waiting]:
    """Those who wait and may start, by task.

    Of each user the first in line and the first of each lower priority, so that what
    has waited long is seen behind what is urgent. Of an array with a limit only as many
    as may start.
    """
    bounded = _bounded_arrays()
    found: dict[int, Waiting] = {}
    line = Task.objects.in_line(moment)
    for lane in LANES:
        owners = list(_owners(lane))
        window = max(1, min(LOOK_AT, MOST // max(1, len(owners))))
        for owner in owners:
            rows = line.filter(lane=lane, owner=owner)
            if bounded:
                rows = rows.exclude(array__in=bounded.keys())
            for row in _window(rows, window):
                found[row[0]] = _waiting(row, moment)
    for head, room in bounded.items():
        elements = line.filter(array=head).order_by("pk")
        for row in elements.values_list(*FIELDS)[:room] if room > 0 else ():
            found[row[0]] = _waiting(row, moment)
    return found


def _owners(lane: str) -> Iterator[int]:
    """Those with tasks in line, each found by one step through the index."""
    line = Task.objects.filter(
        state=State.PENDING, held=False, array_size=None, lane=lane
    ).order_by("owner")
    last = line.values_list("owner", flat=True).first()
    while last is not None:
        yield last
        last = line.filter(owner__gt=last).values_list("owner", flat=True).first()


def _window(rows: QuerySet[Task], most: int) -> Iterable[tuple[Any, ...]]:
    found = list(rows.values_list(*FIELDS)[:most])
    yield from found
    if len(found) < most:
        return
    lowest = found[-1][3]
    for _ in range(LEVELS):
        below = rows.filter(priority__lt=lowest).values_list(*FIELDS)[:OF_A_LEVEL]
        level = [row for row in below if row[3] == below[0][3]]
        if not level:
            return
        yield from level
        lowest = level[0][3]


def _bounded_arrays() -> dict[int, int]:
    """How many elements may start of each array with a limit, by its head."""
    heads = Task.objects.filter(
        array_size__isnull=False, finished_at=None, array_limit__isnull=False
    ).order_by("pk")
    limits: dict[int, int] = {}
    seen: Counter[int] = Counter()
    for pk, owner, limit in heads.values_list("pk", "owner", "array_limit"):
        seen[owner] += 1
        limits[pk] = (limit or 0) if seen[owner] <= ARRAYS else 0
    if limits:
        placed = Task.objects.placed().filter(array__in=limits.keys()).order_by()
        counts = placed.values_list("array").annotate(count=Count("pk"))
        for head, count in counts:
            limits[head] -= count
    return limits


def _waiting(row: tuple[Any, ...], moment: datetime.datetime) -> Waiting:
    (
        pk, lane, owner, priority, cpus, gpus, memory, gpu_memory,
        created_at, time_limit, expected, array, waiting_for, estimated_start,
    ) = row  # fmt: skip
    demand = Demand(
        pk,
        lane,
        Resources(cpus, gpus, memory, gpu_memory),
        owner,
        priority,
        (moment - created_at).total_seconds(),
        time_limit if time_limit is not None else expected,
        time_limit is not None,
        array,
    )
    return Waiting(demand, waiting_for, estimated_start)
