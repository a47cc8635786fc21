from __future__ import annotations

from registry import maintenance
from registry.management.duty import Duty


class Command(Duty):
    help = "End leases, stalled uploads and old records"

    def perform(self) -> dict[str, int]:
        return maintenance.expire()
