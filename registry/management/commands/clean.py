from __future__ import annotations

from registry import maintenance
from registry.management.duty import Duty


class Command(Duty):
    help = "Remove files that no row names"

    def perform(self) -> dict[str, int]:
        return maintenance.clean()
