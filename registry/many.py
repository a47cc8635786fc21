"""One order for many tasks: each is met or refused by itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.db import transaction

from registry.errors import Problem
from registry.models import Task

MOST = 1000  # tasks at a time


def by_filter(rows: Any, states: Collection[str]) -> tuple[list[Task], bool]:
    """The oldest of the rows that the order can mean, and whether there are more."""
    found = rows.filter(state__in=states).select_related("array").order_by("pk")
    tasks = list(found[: MOST + 1])
    return tasks[:MOST], len(tasks) > MOST


def by_ids(rows: Any, ids: Iterable[str]) -> tuple[list[Task], list[dict[str, str]]]:
    """The tasks of those ids in their order, and a refusal for each that is not there."""
    wanted = list(dict.fromkeys(int(one) for one in ids))
    found = rows.select_related("array").in_bulk(wanted)
    missing = Problem("not_found", "Not there, or not yours.")
    return (
        [found[pk] for pk in wanted if pk in found],
        [{"id": str(pk), **missing.as_dict()} for pk in wanted if pk not in found],
    )


def order(
    tasks: Iterable[Task], verb: Callable[[Task], None]
) -> tuple[list[str], list[dict[str, str]]]:
    """Those that met the order, and those that refused it with code and sentence."""
    done, refused = [], []
    for task in tasks:
        try:
            with transaction.atomic():
                verb(task)
            done.append(str(task.pk))
        except Problem as problem:
            refused.append({"id": str(task.pk), **problem.as_dict()})
    return done, refused
