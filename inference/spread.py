"""How many passes of a batch are computed at once: as many as cores are free."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import psutil
from django.conf import settings

EVERY = 0.25  # seconds between two looks at what others compute
MOST = 8
NEARLY = 0.3  # of a core that others may use of one that counts as free


class Spread:
    """One pass, and another for each core that no other process used lately.

    `busy` and `own` are seconds of CPU: of all processes, and of this one.
    """

    def __init__(
        self,
        cores: int,
        *,
        busy: Callable[[], float] | None = None,
        own: Callable[[], float] = time.process_time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most = max(1, min(cores, MOST))
        self._cores, self._now = cores, 1
        self._busy, self._own = busy or busy_seconds, own
        self._monotonic = monotonic
        self._seen = self._look()

    def __call__(self) -> int:
        at, before = self._monotonic(), self._seen
        if self.most > 1 and at - before[0] >= EVERY:
            self._seen = found = self._look()
            spent, busy, own = (n - b for n, b in zip(found, before, strict=True))
            free = self._cores - max(0.0, busy - own) / max(spent, 1e-6)
            self._now = max(1, min(self.most, int(free + NEARLY)))
        return self._now

    def _look(self) -> tuple[float, float, float]:
        return self._monotonic(), self._busy(), self._own()


def cores() -> int:
    """Those that one batch may use; one where a GPU computes."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return 1
    return int(settings.ENVIRONMENT.cpus)


def busy_seconds() -> float:
    """CPU seconds that this machine has spent, those taken away from it included."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Guests' seconds stand in those of users as well.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guests)
