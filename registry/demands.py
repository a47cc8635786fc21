"""The line as the placement is shown it: who waits, a bounded part of each user's line."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, QuerySet

from registry.kinds import LANES
from registry.models import Task
from registry.placement import Demand
from registry.resources import Resources

LOOK_AT = 200  # waiting tasks of each user on each lane looked at in one pass
OF_A_LEVEL = 20  # of them from each priority below what fills that
LEVELS = 8
MOST = 600  # on each lane, shared between its users
ARRAYS = 50  # arrays with a limit that each user has looked at
AT_ONCE = 500  # rows of one statement
PARTS = 100  # owners of one statement
OWNER, LOWEST = -(10**9) - 1, -(10**9) - 2  # stand for values in a statement
OWNERS = """
    WITH RECURSIVE line(owner) AS (
        SELECT MIN(owner_id) FROM registry_task
        WHERE lane = %s AND state = 'pending' AND NOT held AND array_size IS NULL
        UNION ALL
        SELECT (
            SELECT MIN(owner_id) FROM registry_task
            WHERE lane = %s AND state = 'pending' AND NOT held AND array_size IS NULL
              AND owner_id > line.owner
        )
        FROM line WHERE line.owner IS NOT NULL
    )
    SELECT owner FROM line WHERE owner IS NOT NULL
"""
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
    line = Task.objects.in_line(moment)
    free = line.exclude(array__in=bounded.keys()) if bounded else line
    keys: list[int] = []
    for lane in LANES:
        keys += _of_lane(free.filter(lane=lane), _owners(lane))
    for head, room in bounded.items():
        elements = line.filter(array=head).order_by("pk").values_list("pk", flat=True)
        keys += elements[:room] if room > 0 else []
    found: dict[int, Waiting] = {}
    for at in range(0, len(keys), AT_ONCE):
        rows = line.filter(pk__in=keys[at : at + AT_ONCE]).values_list(*FIELDS)
        found |= {row[0]: _waiting(row, moment) for row in rows}
    return found


def _owners(lane: str) -> list[int]:
    """Those with tasks in line, each found by one step through the index."""
    with connection.cursor() as cursor:
        cursor.execute(OWNERS, [lane, lane])
        return [owner for (owner,) in cursor.fetchall()]


def _of_lane(line: QuerySet[Task], owners: list[int]) -> list[int]:
    """The first of each owner, and the first of each priority below them."""
    most = max(1, min(LOOK_AT, MOST // max(1, len(owners))))
    rows = _of_each(line.filter(owner=OWNER), most, [{OWNER: one} for one in owners])
    keys = [pk for pk, _, _ in rows]
    counts = Counter(owner for _, owner, _ in rows)
    lowest: dict[int, int] = {}
    for _, owner, priority in rows:
        if counts[owner] == most:
            lowest[owner] = min(priority, lowest.get(owner, priority))
    below = line.filter(owner=OWNER, priority__lt=LOWEST)
    for _ in range(LEVELS):
        each = [{OWNER: owner, LOWEST: least} for owner, least in lowest.items()]
        rows, lowest = _of_each(below, OF_A_LEVEL, each), {}
        for _, owner, priority in rows:
            lowest[owner] = max(priority, lowest.get(owner, priority))
        keys += [pk for pk, owner, priority in rows if priority == lowest[owner]]
    return keys


def _of_each(
    line: QuerySet[Task], most: int, each: Sequence[Mapping[int, int]]
) -> list[tuple[int, int, int]]:
    """The first of the line for each, with owner and priority, in one statement for many.

    `each` says what stands for OWNER and LOWEST. The line is written once, for that
    takes longer than reading it.
    """
    if not each:
        return []
    first = line.values_list("pk", "owner", "priority")[:most]
    sql, params = first.query.sql_with_params()
    one = f"SELECT * FROM ({sql}) AS part"  # noqa: S608
    found: list[tuple[int, int, int]] = []
    for at in range(0, len(each), PARTS):
        part = each[at : at + PARTS]
        with connection.cursor() as cursor:
            cursor.execute(
                " UNION ALL ".join([one] * len(part)),
                [stands.get(value, value) for stands in part for value in params],
            )
            found += cursor.fetchall()
    return found


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
