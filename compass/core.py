"""A busy process of one interpreter stays on one core while that is free.

Its threads take turns at the interpreter's lock. Where the kernel spreads them over the cores, each
finds what it needs in the cache of another one: that costs a busy web process a fifth of its time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from registry.cores import ALLOWED, busy_seconds

log = logging.getLogger(__name__)

EVERY = 1.0  # seconds between two looks
BUSY = 0.2  # of a core that the process uses, else it is left alone
FREE = 0.6  # of a core that others use at most where it settles
BETTER = 0.25  # of a core that others use less where it moves to
THREADS = Path("/proc/self/task")

Seconds = Mapping[int, float]  # of processor time, by core


class Core:
    """Looks where the process is best, and settles it there; `allowed` are its cores.

    `busy` is what all processes have used, and `own` what this one has.
    """

    def __init__(
        self,
        allowed: Collection[int],
        *,
        settle: Callable[[Collection[int]], object],
        busy: Callable[[], Seconds],
        own: Callable[[], float] = time.process_time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed, self._settle = sorted(allowed), settle
        self._busy, self._own, self._monotonic = busy, own, monotonic
        self.current: int | None = None
        self._seen = self._look()

    def step(self) -> None:
        """Stay, move, or let the kernel choose, by what was used since the step before."""
        before, self._seen = self._seen, self._look()
        spent = max(self._seen[0] - before[0], 1e-6)
        own = (self._seen[1] - before[1]) / spent
        busy, was = self._seen[2], before[2]
        both = busy.keys() & was.keys()  # a core may come and go
        used = {n: (busy[n] - was[n]) / spent for n in self._allowed if n in both}
        is_gone = self.current is not None and self.current not in used
        if own < BUSY or not used or is_gone:
            self._choose(None)
            return
        for n in used:
            mine = (
                own / len(used) if self.current is None else own * (n == self.current)
            )
            used[n] = max(0.0, used[n] - mine)
        best = min(used, key=used.__getitem__)
        if self.current is None:
            if used[best] < FREE:
                self._choose(best)
        elif used[best] + BETTER < used[self.current]:
            self._choose(best)

    def _choose(self, core: int | None) -> None:
        if core != self.current:
            self._settle(self._allowed if core is None else {core})
            self.current = core

    def _look(self) -> tuple[float, float, Seconds]:
        return self._monotonic(), self._own(), self._busy()


def watch() -> None:
    """Do so for this process from now on, if there is a choice."""
    if len(ALLOWED) < 2:
        return
    try:
        core = Core(ALLOWED, settle=settle, busy=busy_seconds)
    except (OSError, ValueError) as error:
        log.info("The kernel chooses the cores: %s", error)
        return

    def run() -> None:
        pause = threading.Event()
        while not pause.wait(EVERY):
            try:
                core.step()
            except Exception:  # the next second tries again
                log.exception("The process could not be settled on a core")

    threading.Thread(target=run, name="core", daemon=True).start()


def settle(cores: Collection[int]) -> None:
    """Have all threads of this process, and those that they begin, run on these cores."""
    for thread in os.listdir(THREADS):  # noqa: PTH208
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cores)
