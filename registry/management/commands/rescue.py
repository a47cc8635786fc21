from __future__ import annotations

from registry import maintenance
from registry.management.duty import Duty


class Command(Duty):
    help = "Release what lost workers held, then place what waits"

    def perform(self) -> dict[str, int]:
        return maintenance.rescue()
