"""How many passes of a batch are computed at once: as many as cores are free."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from django.conf import settings

from registry.cores import ALLOWED, busy_seconds

EVERY = 0.25  # seconds between two looks at what others compute
FIRST = 0.1  # seconds until the first of them
MOST = 8
NEARLY = 0.3  # of a core that others may use of one that counts as free


class Spread:
    """One pass, and another for each core that nobody else used lately.

    `own` is what the batch itself has used, and `busy` what all have on the cores that this
    process may run on, of which there are `machine`; both in seconds of processor time. At most
    `cores` are taken.
    """

    def __init__(
        self,
        cores: int,
        *,
        own: Callable[[], float],
        busy: Callable[[], float] | None = None,
        machine: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most = max(1, min(cores, MOST))
        self._machine, self._now = machine or len(ALLOWED), 1
        self._busy, self._own = busy or busy_here, own
        self._monotonic = monotonic
        self._seen, self._every = self._look(), FIRST

    def __call__(self) -> int:
        at, before = self._monotonic(), self._seen
        if self.most > 1 and at - before[0] >= self._every:
            self._seen = found = self._look()
            self._every = EVERY
            spent, busy, own = (n - b for n, b in zip(found, before, strict=True))
            free = self._machine - max(0.0, busy - own) / max(spent, 1e-6)
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


def busy_here() -> float:
    """What all have computed on the cores of this process; ever more where that is not told."""
    try:
        found = busy_seconds()
    except (OSError, ValueError):
        return len(ALLOWED) * time.monotonic()
    return sum(found.get(core, 0.0) for core in ALLOWED)
