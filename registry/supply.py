"""The nodes as the placement is shown them, with what is reserved, limited and used."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from registry.models import Attempt, Lane, Node, Reservation, Task, Use, UserLimit
from registry.models.node import SUSPECT_AFTER
from registry.placement import Absent, Booking, Gpu, Holding, Limit, Offer
from registry.placement.sizes import Size
from registry.resources import Resources
from registry.rows import Found
from registry.states import State

HELD = (
    "pk", "node", "owner", "cpus", "gpus", "memory", "gpu_memory",
    "assigned_at", "started_at", "time_limit", "expected",
)  # fmt: skip

KNOWN = Found(  # asked at each submit
    Node,
    ["name", "lane", "cpus", "memory", "gpus", "beat_at", "stopped_at"],
    "ORDER BY name",
)


class Known(NamedTuple):
    """A node as large as it is, up or not."""

    lane: str
    size: Size
    beat_at: datetime.datetime
    stopped_at: datetime.datetime | None

    def is_up(self, moment: datetime.datetime) -> bool:
        return self.stopped_at is None and moment - self.beat_at < SUSPECT_AFTER


class Supply(NamedTuple):
    """What is offered, by the words of the placement, and the rows of the nodes by name."""

    nodes: dict[str, Node]
    offers: list[Offer]
    elsewhere: list[Holding]
    absent: list[Absent]


def look(moment: datetime.datetime) -> Supply:
    """All nodes: those that take work with what they hold, and the others."""
    rows = {node.pk: node for node in Node.objects.all()}
    held = _holdings(moment)
    supply = Supply({}, [], [], [])
    for node in rows.values():
        holdings = held.pop(node.pk, [])
        why = _absence(node, moment)
        if why:
            absent = Absent(node.name, node.lane, node.capacity, gpus_of(node), why)
            supply.absent.append(absent)
            supply.elsewhere.extend(holdings)
            continue
        supply.nodes[node.name] = node
        supply.offers.append(
            Offer(node.name, node.lane, node.capacity, gpus_of(node), holdings)
        )
    return supply


def known() -> list[Known]:
    found = []
    for row in KNOWN.lists():
        _, name, lane, cpus, memory, gpus, beat_at, stopped_at = row
        capacity = Resources(cpus, len(gpus), memory)
        size = Size(name, capacity, _gpus(gpus) if gpus else [])
        found.append(Known(lane, size, beat_at, stopped_at))
    return found


def gpus_of(node: Node) -> list[Gpu]:
    return _gpus(node.gpus)


def _gpus(told: Sequence[dict[str, Any]]) -> list[Gpu]:
    return [
        Gpu(
            int(gpu.get("index", number)),
            int(gpu.get("memory") or 0),
            str(gpu.get("busy") or ""),
        )
        for number, gpu in enumerate(told)
    ]


def bookings(moment: datetime.datetime) -> list[Booking]:
    """The reservations that are open or still to come."""
    rows = Reservation.objects.filter(ends_at__gt=moment)
    return [
        Booking(
            row.name,
            row.lane,
            row.node.name if row.node else None,
            Resources(row.cpus, row.gpus, row.memory)
            if row.cpus or row.gpus or row.memory
            else None,
            (row.starts_at - moment).total_seconds(),
            (row.ends_at - moment).total_seconds(),
            frozenset(user.pk for user in row.users.all()),
        )
        for row in rows.select_related("node").prefetch_related("users")
    ]


def limits(owners: Iterable[int]) -> dict[int, Limit]:
    """What each of them may hold at a time; the row without a user is for all others."""
    known = {
        row.user_id: Limit(row.tasks, row.cpus, row.gpus)
        for row in UserLimit.objects.all()
    }
    if not known:
        return {}
    default = known.get(None, Limit())
    return {owner: known.get(owner, default) for owner in owners}


def uses(owners: Iterable[int], moment: datetime.datetime) -> dict[int, float]:
    """Weighted CPU-seconds of late, with what runs now up to this moment."""
    wanted = set(owners)
    found = {row.pk: row.at(moment) for row in Use.objects.filter(pk__in=wanted)}
    running = Task.objects.filter(
        state=State.RUNNING, owner__in=wanted, array_size=None
    )
    for owner, cpus, gpus, since in running.values_list(
        "owner", "cpus", "gpus", "started_at"
    ):
        took = max(0.0, (moment - since).total_seconds()) if since else 0.0
        weight = Resources(cpus, gpus).weight
        found[owner] = found.get(owner, 0.0) + took * weight
    return found


def paused() -> dict[str, str]:
    """Why nothing starts on the lanes that an operator paused."""
    return {row.name: row.sentence for row in Lane.objects.exclude(paused_at=None)}


def _holdings(moment: datetime.datetime) -> dict[int, list[Holding]]:
    """What is placed, by node, in the order of placing."""
    placed = Task.objects.placed().filter(node__isnull=False)
    rows = list(placed.order_by("assigned_at", "pk").values_list(*HELD))
    with_gpus = [row[0] for row in rows if row[4]]
    live = Attempt.objects.filter(task__in=with_gpus, finished_at=None)
    indexes = dict(live.values_list("task", "gpus")) if with_gpus else {}
    held: dict[int, list[Holding]] = {}
    for row in rows:
        pk, node, owner, cpus, gpus, memory, each, *times = row
        assigned, started, limit, usual = times
        lasts = limit if limit is not None else usual
        since = started or assigned
        ends = None
        if lasts is not None and since is not None:
            ends = lasts - (moment - since).total_seconds()
        holding = Holding(
            pk,
            Resources(cpus, gpus, memory, each),
            tuple(_whole(indexes.get(pk, ()))),
            ends,
            owner,
            limit is not None,
        )
        assert node is not None
        held.setdefault(node, []).append(holding)
    return held


def _whole(indexes: Sequence[Any]) -> Iterable[int]:
    return (int(index) for index in indexes)


def _absence(node: Node, moment: datetime.datetime) -> str:
    condition = node.condition(moment)
    if condition in ("suspect", "lost"):
        return f"was last seen at {node.beat_at:%Y-%m-%d %H:%M} UTC"
    return {
        "up": node.short,
        "stopped": "was stopped",
        "draining": "is draining",
        "drained": "is drained",
    }[condition]
