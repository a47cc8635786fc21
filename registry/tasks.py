"""The background tasks, each one call; they go to the default queue, `control`."""

from __future__ import annotations

from celery import shared_task

from registry import (
    maintenance,
    membership,
    probes,
    scheduler,
    sealing,
)
from registry.models import Pulse


@shared_task(name="registry.dispatch", ignore_result=True)
def dispatch() -> dict[str, int]:
    """Place what waits; also the sign that beat and the control worker are there."""
    Pulse.record("beat")
    plan = scheduler.dispatch()
    return {"placed": len(plan.places), "waiting": len(plan.waits)}


@shared_task(name="registry.rescue", ignore_result=True)
def rescue() -> dict[str, int]:
    return maintenance.rescue()


@shared_task(name="registry.expire", ignore_result=True)
def expire() -> dict[str, int]:
    return maintenance.expire()


@shared_task(name="registry.clean")
def clean() -> dict[str, int]:
    return maintenance.clean()


@shared_task(name="registry.probe", ignore_result=True)
def probe(attempts: list[list[int]]) -> int:
    """See probes through that dispatch assigned to this worker."""
    return probes.run(membership.here(), attempts)  # they held nothing for others


@shared_task(name="registry.seal")
def seal(upload: int) -> str:
    return sealing.seal(upload)
