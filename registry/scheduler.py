"""Dispatch: the placement carried out on the rows, and its messages sent."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from django.db import transaction

from registry import (
    arrays,
    assignment,
    broker,
    clock,
    demands,
    dependencies,
    fronts,
    supply,
    verdicts,
)
from registry.crashpoints import crashpoint
from registry.locks import lock_until_commit
from registry.models import Node, Task
from registry.placement import Plan, place
from registry.states import State

RESEND_AFTER = datetime.timedelta(seconds=5)
ROUNDS = 20  # passes of one dispatch at most


def dispatch() -> Plan:
    """Place what fits, note why the rest waits, and send or send again what nobody took.

    One at a time by a database lock; messages go out after the commit. Where all that a
    pass looked at was placed, more may fit, and it goes on with the next.
    """
    plan = _pass()
    for _ in range(ROUNDS):
        if plan.waits or len(plan.places) < fronts.LOOK_AT:
            break
        placed, plan = plan.places, _pass()
        plan.places = {**placed, **plan.places}
    return plan


def _pass() -> Plan:
    crashpoint("accepted-before-dispatch")
    with transaction.atomic():
        lock_until_commit("dispatch")
        arrays.settle()
        dependencies.resolve()
        moment = clock.now()
        waiting = demands.look(moment)
        plan = Plan()
        sent: list[Task] = []
        if waiting:
            offered = supply.look(moment)
            owners = {one.demand.owner for one in waiting.values()}
            plan = place(
                [one.demand for one in waiting.values()],
                offered.offers,
                supply.bookings(moment),
                supply.limits(owners),
                supply.uses(owners, moment),
                moment=moment,
                paused=supply.paused(),
                elsewhere=offered.elsewhere,
                absent=offered.absent,
            )
            sent = assignment.assign_all(plan.places, offered.nodes, moment)
            verdicts.write(plan, waiting, moment)
        sent += _untaken(moment)
        crashpoint("assigned-before-commit")
    crashpoint("assigned-before-send")
    broker.send_all(sent)
    return plan


def _untaken(moment: datetime.datetime) -> Iterable[Task]:
    overdue = Task.objects.filter(
        state=State.ASSIGNED,
        sent_at__lte=moment - RESEND_AFTER,
        node__in=Node.objects.up(moment),
    )
    # What another transaction holds is on its way elsewhere; waiting for several rows in
    # another order than it takes them would be a deadlock.
    free = overdue.select_for_update(skip_locked=True, of=("self",))
    keys = list(free.values_list("pk", flat=True))
    if not keys:
        return []
    again = Task.objects.filter(pk__in=keys)
    again.update(sent_at=moment)
    return list(again.select_related("node"))
