"""Short ways to write a line, its nodes, and the pass over them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from registry.placement import Demand, Gpu, Holding, Offer, Plan, place
from registry.resources import GIB, Resources

NINE = datetime.datetime(2026, 1, 5, 9, 0, tzinfo=datetime.UTC)


def demand(task: int, cpus: int = 1, **fields: Any) -> Demand:
    """A demand on the lane cpu; `limit` is its time limit, `usual` what it takes."""
    needs = {name: fields.pop(name, 0) for name in ("gpus", "memory", "gpu_memory")}
    limit, usual = fields.pop("limit", None), fields.pop("usual", None)
    return Demand(
        task,
        fields.pop("lane", "cpu"),
        Resources(cpus, **needs),
        lasts=limit if limit is not None else usual,
        is_limit=limit is not None,
        **fields,
    )


def holding(task: int, cpus: int = 1, **fields: Any) -> Holding:
    """What is placed; `until` is promised, `about` is a guess."""
    needs = {name: fields.pop(name, 0) for name in ("gpus", "memory", "gpu_memory")}
    until, about = fields.pop("until", None), fields.pop("about", None)
    indexes = fields.pop("indexes", ())
    needs["gpus"] = needs["gpus"] or len(indexes)
    return Holding(
        task,
        Resources(cpus, **needs),
        indexes,
        until if until is not None else about,
        promised=until is not None,
        **fields,
    )


def offer(
    node: str = "cpu@a",
    cpus: int = 8,
    holdings: Iterable[Holding] = (),
    *,
    memory: int = 64 * GIB,
    gpus: Iterable[Gpu] = (),
) -> Offer:
    devices = list(gpus)
    capacity = Resources(cpus, len(devices), memory)
    return Offer(node, node.partition("@")[0], capacity, devices, list(holdings))


def plan(line: Iterable[Demand], offers: Iterable[Offer], **fields: Any) -> Plan:
    return place(line, offers, moment=NINE, **fields)


def nodes(made: Plan) -> dict[int, str]:
    """Where the placed tasks are, by task."""
    return {task: where.node for task, where in made.places.items()}
