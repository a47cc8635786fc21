"""The line as the placement is shown it: who waits, a bounded part of each user's line."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from django.db.models import Count

from registry import fronts
from registry.models import Task
from registry.placement import Demand
from registry.resources import Resources

ARRAYS = 50  # arrays with a limit that each user has looked at
AT_ONCE = 500  # rows of one statement


class Waiting(NamedTuple):
    """A demand, and what its row says by now of why and when."""

    demand: Demand
    waiting_for: tuple[str, ...]
    estimated_start: datetime.datetime | None


def look(moment: datetime.datetime) -> dict[int, Waiting]:
    """Those who wait and may start, by task.

    Of each user the first in line and the first of each lower priority, so that what
    has waited long is seen behind what is urgent. Of an array with a limit only as many
    as may start.
    """
    bounded = _bounded_arrays()
    line = Task.objects.in_line(moment)
    free = line.exclude(array__in=bounded.keys()) if bounded else line
    rows: list[fronts.Row] = []
    for lane, owners in fronts.owners().items():
        rows += fronts.of_lane(free.filter(lane=lane), owners, moment)
    keys: list[int] = []
    for head, room in bounded.items():
        elements = line.filter(array=head).order_by("pk").values_list("pk", flat=True)
        keys += elements[:room] if room > 0 else []
    for at in range(0, len(keys), AT_ONCE):
        rows += fronts.read(line.filter(pk__in=keys[at : at + AT_ONCE]), moment)
    return {row[0]: _waiting(row, moment) for row in rows}


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


def _waiting(row: fronts.Row, moment: datetime.datetime) -> Waiting:
    (
        pk, lane, owner, priority, cpus, gpus, memory, gpu_memory,
        time_limit, expected, array, estimated_start, made, waiting_for,
    ) = row  # fmt: skip
    demand = Demand(
        pk,
        lane,
        Resources(cpus, gpus, memory, gpu_memory),
        owner,
        priority,
        made if isinstance(made, float) else (moment - made).total_seconds(),
        time_limit if time_limit is not None else expected,
        time_limit is not None,
        array,
    )
    return Waiting(demand, _words(waiting_for), estimated_start)


@lru_cache(2 * fronts.MOST)
def _words(text: str) -> tuple[str, ...]:
    """Most tell from pass to pass, and from task to task, the same."""
    return tuple(json.loads(text))
