"""The front of each user's line, by as few statements as may be."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from django.db import connection
from django.db.models import F, FloatField, Func, QuerySet, TextField, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast

from registry.kinds import LANES
from registry.models import Task

LOOK_AT = 200  # waiting tasks of each user on each lane looked at in one pass
OF_A_LEVEL = 20  # of them from each priority below what fills that
LEVELS = 8
MOST = 600  # on each lane, shared between its users
PARTS = 100  # owners of one statement
OWNER, LOWEST = -(10**9) - 1, -(10**9) - 2  # stand for values in a statement
OWNERS = f"""
    WITH RECURSIVE line(lane, owner) AS (
        SELECT given.lane, (
            SELECT MIN(owner_id) FROM registry_task AS task
            WHERE task.lane = given.lane
              AND state = 'pending' AND NOT held AND array_size IS NULL
        )
        FROM ({" UNION ALL ".join(["SELECT CAST(%s AS text) AS lane"] * len(LANES))})
        AS given
        UNION ALL
        SELECT line.lane, (
            SELECT MIN(owner_id) FROM registry_task AS task
            WHERE task.lane = line.lane
              AND state = 'pending' AND NOT held AND array_size IS NULL
              AND owner_id > line.owner
        )
        FROM line WHERE line.owner IS NOT NULL
    )
    SELECT lane, owner FROM line WHERE owner IS NOT NULL
"""  # noqa: S608
FIELDS = (
    "pk", "lane", "owner", "priority", "cpus", "gpus", "memory", "gpu_memory",
    "time_limit", "expected", "array", "estimated_start",
)  # fmt: skip
Row = tuple[Any, ...]  # what `read` reads
Params = tuple[Any, ...]
Stands = Mapping[int, int]  # a value for OWNER, and for LOWEST where it is asked


def owners() -> dict[str, list[int]]:
    """Those with tasks in line, by lane, each found by one step through the index."""
    found: dict[str, list[int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(OWNERS, [*LANES])
        for lane, owner in cursor.fetchall():
            found.setdefault(lane, []).append(owner)
    return found


def of_lane(
    line: QuerySet[Task], owners: list[int], moment: datetime.datetime
) -> list[Row]:
    """The first of each owner, and the first of each priority below them."""
    most = max(1, min(LOOK_AT, MOST // len(owners)))
    each = [{OWNER: owner} for owner in owners]
    found = _of_each(line.filter(owner=OWNER), most, each, moment)
    counts = Counter(row[2] for row in found)
    lowest: dict[int, int] = {}
    for _, _, owner, priority, *_ in found:
        if counts[owner] == most:
            lowest[owner] = min(priority, lowest.get(owner, priority))
    below = line.filter(owner=OWNER, priority__lt=LOWEST)
    for _ in range(LEVELS):
        if not lowest:
            break
        each = [{OWNER: owner, LOWEST: least} for owner, least in lowest.items()]
        rows, lowest = _of_each(below, OF_A_LEVEL, each, moment), {}
        for _, _, owner, priority, *_ in rows:
            lowest[owner] = max(priority, lowest.get(owner, priority))
        found += [row for row in rows if row[3] == lowest[row[2]]]
    return found


def _of_each(
    line: QuerySet[Task],
    most: int,
    each: Sequence[Stands],
    moment: datetime.datetime,
) -> list[Row]:
    """The first of the line for each, in one statement for many.

    `each` says what stands for OWNER and LOWEST. The line is written once, for that
    takes longer than reading it.
    """
    sql, params = line.values("pk")[:most].query.sql_with_params()
    found: list[Row] = []
    for at in range(0, len(each), PARTS):
        part = each[at : at + PARTS]
        if connection.vendor == "postgresql":
            keys = _lateral(sql, params, part)
        else:
            keys = _united(sql, params, part)
        rows = Task.objects.filter(pk__in=keys).order_by("-priority", "pk")
        found += read(rows, moment)
    return found


def _united(sql: str, params: Params, each: Sequence[Stands]) -> RawSQL:
    one = f"SELECT * FROM ({sql}) AS part"  # noqa: S608
    values = [stands.get(value, value) for stands in each for value in params]
    return RawSQL(" UNION ALL ".join([one] * len(each)), values)  # noqa: S611


def _lateral(sql: str, params: Params, each: Sequence[Stands]) -> RawSQL:
    """The same where a part may read the row beside it: read once, however many there are."""
    beside = {OWNER: "beside.owner", LOWEST: "beside.lowest"}
    marks = [beside.get(value, "%s") for value in params]
    part = "".join(chain(*zip(sql.split("%s"), [*marks, ""], strict=True)))
    owners = [stands.get(OWNER) for stands in each]
    lowest = [stands.get(LOWEST) for stands in each]
    others = [value for value in params if value not in beside]
    return RawSQL(  # noqa: S611
        f"""
        SELECT part.* FROM unnest(%s::int[], %s::int[]) AS beside(owner, lowest)
        CROSS JOIN LATERAL ({part}) AS part
        """,  # noqa: S608
        [owners, lowest, *others],
    )


def read(rows: QuerySet[Task], moment: datetime.datetime) -> QuerySet[Task, Row]:
    """PostgreSQL counts the seconds itself, for reading its times takes longer."""
    made: F | Func = F("created_at")
    if connection.vendor == "postgresql":
        made = Func(
            Value(moment),
            made,
            template="CAST(EXTRACT(EPOCH FROM %(expressions)s) AS float8)",
            arg_joiner=" - ",
            output_field=FloatField(),
        )
    return rows.values_list(*FIELDS, made, Cast("waiting_for", TextField()))
