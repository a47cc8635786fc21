"""Signs of life: which job is hung, and which is only busy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from training.processes import cpu_ticks

CHECK_EVERY = 5.0  # seconds between two checks of a job process
MISSED = 3  # checks in a row without a sign: the process is hung; one does nothing
BUSY = 2  # clock ticks of CPU time between two checks that are a sign


class Checked(Protocol):
    pid: int

    def check(self) -> None: ...


class Pace:
    """Looks at regular times, and how many of them in a row saw no sign."""

    def __init__(self, every: float, now: float) -> None:
        self.every, self.missed, self._last = every, 0, now

    def is_due(self, now: float) -> bool:
        """At most one look is due at a time, however long nobody looked."""
        if now - self._last < self.every:
            return False
        self._last = now
        return True

    def note(self, *, seen: bool) -> None:
        self.missed = 0 if seen else self.missed + 1


class Signs:
    """The signs of one job.

    Its process is asked for one every 5 s; whatever it says is one, and so is CPU time, for a
    long call may keep it from answering. With `hang_after` (seconds) the work itself is looked
    at as well: it must tell something, or its log grow, and is looked at three times in that.
    """

    def __init__(
        self, job: Checked, log: Path, hang_after: int | None, now: float
    ) -> None:
        self._job, self._log, self._hang_after = job, log, hang_after
        self._process = Pace(CHECK_EVERY, now)
        self._work = Pace(hang_after / MISSED, now) if hang_after else None
        self._heard = self._told = False
        self._ticks, self._size = cpu_ticks(job.pid), _size(log)
        job.check()

    def take(self, frame: Mapping[str, Any]) -> None:
        self._heard = True
        self._told |= frame.get("event") != "alive"

    def look(self, now: float) -> str:
        """Check it when it is time; a sentence once it is hung, else nothing."""
        if self._process.is_due(now):
            self._process.note(seen=self._heard or self._is_busy())
            self._heard = False
            if self._process.missed >= MISSED:
                span = MISSED * CHECK_EVERY
                return f"Its process gave no sign of life for {span:.0f} s."
            self._job.check()
        if self._work and self._work.is_due(now):
            grown = _size(self._log)
            self._work.note(seen=self._told or grown != self._size)
            self._told, self._size = False, grown
            if self._work.missed >= MISSED:
                return f"It told nothing and its log did not grow for {self._hang_after} s."
        return ""

    def _is_busy(self) -> bool:
        before, self._ticks = self._ticks, cpu_ticks(self._job.pid)
        return self._ticks - before >= BUSY


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0
