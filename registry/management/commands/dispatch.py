from __future__ import annotations

from registry import scheduler
from registry.management.duty import Duty


class Command(Duty):
    help = "Place what waits, and send again what no worker took"

    def perform(self) -> dict[str, int]:
        plan = scheduler.dispatch()
        return {"placed": len(plan.places), "waiting": len(plan.waits)}
