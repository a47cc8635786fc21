"""Which instance of a service should answer, and which ones are no longer there."""

from __future__ import annotations

import datetime
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from django.db import transaction
from django.db.models import F, Max

from registry import clock
from registry.errors import Problem
from registry.locks import lock_until_commit
from registry.models import Pulse, Service
from registry.models.service import LEASE

log = logging.getLogger(__name__)

RETRY_AFTER = 5.0  # seconds
BACK = "registry_back"  # the pulse of the registry's own return


def discover(service_name: str, strategy: str) -> Service:
    """Choose an instance that is up, or else a suspect one, and note that it was given out.

    One at a time by a database lock, so that the round is even over all processes. Raises Problem
    `not_found` if no instance is registered, `no_instance` if none is usable.
    """
    with transaction.atomic():
        lock_until_commit(f"discover {service_name}")
        known = Service.objects.filter(service_name=service_name)
        rows: Sequence[Service] = ()
        for state in (Service.State.UP, Service.State.SUSPECT):
            rows = rows or list(known.filter(state=state).order_by("turn", "pk"))
        if not rows and not known.exists():
            raise Problem("not_found", f"No instance of {service_name} is registered.")
        if not rows:
            text = f"No instance of {service_name} is up."
            raise Problem("no_instance", text, retry_after=RETRY_AFTER)
        chosen = STRATEGIES[strategy](rows)
        last: int = known.aggregate(last=Max("turn"))["last"]
        known.filter(pk=chosen.pk).update(turn=last + 1, given=F("given") + 1)
        return chosen


def expire() -> dict[str, int]:
    """Mark who missed beats or lost the lease, and remove who is down for a day.

    If the registry itself was away for longer than a lease, nobody could beat, and nobody
    expires for one lease after its return.
    """
    moment = clock.now()
    counts = {"suspect": 0, "down": 0, "removed": 0}
    if _is_back_lately(moment):
        return counts
    for state, rows, message in (
        (Service.State.DOWN, Service.objects.expired(moment), "Its lease ran out"),
        (
            Service.State.SUSPECT,
            Service.objects.suspicious(moment),
            "It missed 2 beats",
        ),
    ):
        for service in rows:
            with transaction.atomic():
                # By the same look: a beat that came between keeps it.
                if rows.filter(pk=service.pk).update(state=state):
                    seen = (
                        f"{message}; last seen {service.beat_at:%Y-%m-%d %H:%M:%S} UTC."
                    )
                    service.note(seen, at=moment, state=state)
                    counts[state.value] += 1
    for service in Service.objects.forgotten(moment):
        service.deregister("Removed after a day without a beat.")
        counts["removed"] += 1
    return counts


def _is_back_lately(moment: datetime.datetime) -> bool:
    pulses = dict(Pulse.objects.values_list("name", "at"))
    last, back = pulses.get("expire"), pulses.get(BACK)
    if last is not None and moment - last > LEASE:
        log.warning("The registry was away since %s; no service expires now.", last)
        Pulse.record(BACK)
        return True
    return back is not None and moment - back < LEASE


def _by_turn(rows: Sequence[Service]) -> Service:
    return rows[0]


def _at_random(rows: Sequence[Service]) -> Service:
    weights = [service.weight for service in rows]
    return random.choices(rows, weights)[0]  # noqa: S311


def _least_connected(rows: Sequence[Service]) -> Service:
    """By the connections that the last beat told and those given since, for the weight."""

    def load(service: Service) -> float:
        return (service.connections + service.given) / service.weight

    return min(rows, key=load)


STRATEGIES: dict[str, Callable[[Sequence[Any]], Service]] = {
    "round_robin": _by_turn,
    "random": _at_random,
    "least_connections": _least_connected,
}
