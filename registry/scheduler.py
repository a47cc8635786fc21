"""Placement: which waiting task goes to which node, and why the others wait."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db import transaction

from registry import arrays, broker, clock, dependencies
from registry.kinds import LANES
from registry.locks import lock_until_commit
from registry.models import Node, Stale, Task
from registry.resources import GIB, Resources
from registry.states import State

log = logging.getLogger(__name__)

RESEND_AFTER = datetime.timedelta(seconds=5)
LOOK_AT = 1000  # waiting tasks of each lane looked at in one pass


@dataclass(frozen=True)
class Demand:
    """A waiting task as the placement sees it."""

    task: int
    lane: str
    needs: Resources


@dataclass
class Offer:
    """A node's free part as the placement sees it."""

    node: str
    lane: str
    free: Resources


@dataclass
class Plan:
    """Where tasks go, by task id, and for the others all the reasons why they wait."""

    places: dict[int, str] = field(default_factory=dict)
    waits: dict[int, list[str]] = field(default_factory=dict)


def first_fit(line: Iterable[Demand], offers: Iterable[Offer]) -> Plan:
    """Give each demand, in the order of the line, the first node where it fits."""
    plan = Plan()
    free = {offer.node: offer for offer in offers}
    for demand in line:
        lane = [offer for offer in free.values() if offer.lane == demand.lane]
        for offer in lane:
            if demand.needs.fits(offer.free):
                offer.free = offer.free.minus(demand.needs)
                plan.places[demand.task] = offer.node
                break
        else:
            plan.waits[demand.task] = [_why(demand, offer) for offer in lane] or [
                f"No {demand.lane} worker is up."
            ]
    return plan


def dispatch() -> Plan:
    """Place what fits, note why the rest waits, and send or send again what nobody took.

    One at a time by a database lock; messages go out after the commit.
    """
    with transaction.atomic():
        lock_until_commit("dispatch")
        arrays.settle()
        dependencies.resolve()
        moment = clock.now()
        nodes = {node.name: node for node in Node.objects.up(moment)}
        line = {
            task.pk: task
            for lane in LANES
            for task in Task.objects.in_line(moment).filter(lane=lane)[:LOOK_AT]
        }
        plan = first_fit(
            [Demand(task.pk, task.lane, task.resources) for task in line.values()],
            free_parts(nodes.values()),
        )
        sent = [_assign(line[pk], nodes[name]) for pk, name in plan.places.items()]
        sent += _untaken(nodes.values(), moment)
        for pk, reasons in plan.waits.items():
            if line[pk].waiting_for != reasons:
                Task.objects.filter(pk=pk, state=State.PENDING).update(
                    waiting_for=reasons
                )
    for task in sent:
        if task is not None:
            broker.send(task)
    return plan


def free_parts(nodes: Iterable[Node]) -> list[Offer]:
    """What each node that takes work has left: its capacity less its placed rows."""
    offers = {
        node.pk: Offer(node.name, node.lane, node.capacity)
        for node in nodes
        if not node.draining
    }
    for task in Task.objects.placed().filter(node__in=offers.keys()):
        offer = offers[task.node_id]  # type: ignore[index]
        offer.free = offer.free.minus(task.resources)
    return sorted(offers.values(), key=lambda offer: offer.node)


def _assign(task: Task, node: Node) -> Task | None:
    try:
        task.assign(node)
    except Stale:  # cancelled since the look
        return None
    return task


def _untaken(nodes: Iterable[Node], moment: datetime.datetime) -> list[Task | None]:
    overdue = Task.objects.filter(
        state=State.ASSIGNED, sent_at__lte=moment - RESEND_AFTER, node__in=list(nodes)
    ).select_related("node")
    # What another transaction holds is on its way elsewhere; waiting for several rows in
    # another order than it takes them would be a deadlock.
    again: list[Task | None] = list(
        overdue.select_for_update(skip_locked=True, of=("self",))
    )
    Task.objects.filter(pk__in=[task.pk for task in again if task]).update(
        sent_at=moment
    )
    return again


def _why(demand: Demand, offer: Offer) -> str:
    needs, free = demand.needs, offer.free
    short = [
        f"{need} {what}; {offer.node} has {max(left, 0)} free"
        for need, left, what in (
            (needs.cpus, free.cpus, "CPUs"),
            (needs.gpus, free.gpus, "GPUs"),
        )
        if need > left
    ]
    if needs.memory > free.memory:
        short.append(
            f"{needs.memory / GIB:.1f} GiB of memory; {offer.node} has "
            f"{max(free.memory, 0) / GIB:.1f} GiB free"
        )
    return "Needs " + ", and ".join(short) + "."
