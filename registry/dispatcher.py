"""Placement in the background: whoever changes a row asks for a pass and goes on.

One thread of each process runs the passes it is asked for, at most one running and one to come,
so a thousand submits in a second cost a few passes. Nothing is lost with it: the regular dispatch
places what a process that died was asked for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from django.db import connection

from registry import scheduler

log = logging.getLogger(__name__)

# Times what a pass took, between it and the next: the others write and compute then. After one
# that placed nothing longer, for the next will hardly find more.
REST, REST_IN_VAIN = 0.5, 10.0
LONGEST_REST = 0.5  # seconds
FULL = 100  # tasks placed by one pass, and none left out: it saw a part of the line
IDLE = 60.0  # seconds without a wish, after which thread and connection end


class Outcome(NamedTuple):
    """What a pass did: how many it placed, and whether more may stand behind what it saw."""

    placed: int = 0
    more: bool = False


class Dispatcher:
    """Runs passes when asked to; `run` is one pass."""

    def __init__(
        self,
        run: Callable[[], Outcome],
        *,
        rest: Callable[[float], object] = time.sleep,
        idle: float = IDLE,
    ) -> None:
        self._run, self._rest, self._idle = run, rest, idle
        self._changed = threading.Condition()
        self._wished = self._done = 0  # wishes so far, and those that a pass has met
        self._thread: threading.Thread | None = None

    def nudge(self) -> int:
        """Ask for a pass that begins after this moment; the number of the wish."""
        with self._changed:
            self._wished += 1
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._work, name="dispatcher", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()
            return self._wished

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until every wish so far is met; for processes that end soon."""
        with self._changed:
            wish = self._wished
            return self._changed.wait_for(lambda: self._done >= wish, timeout)

    def _work(self) -> None:
        try:
            while self._is_wished():
                wish, began = self._wished, time.monotonic()
                outcome = Outcome()
                try:
                    outcome = self._run()
                except Exception as error:
                    log.warning("The regular dispatch places it: %s", error)
                    connection.close()
                with self._changed:
                    self._done = wish
                    self._wished += outcome.more
                    self._changed.notify_all()
                took = time.monotonic() - began
                rest = REST if outcome.placed else REST_IN_VAIN
                self._rest(min(took * rest, LONGEST_REST))
        finally:
            connection.close()

    def _is_wished(self) -> bool:
        """Wait for a wish; after a long time without one the thread ends."""
        with self._changed:
            if self._changed.wait_for(lambda: self._wished > self._done, self._idle):
                return True
            self._thread = None
            return False


def one_pass() -> Outcome:
    """Place. If all that was seen of a long line found a place, more may stand behind it."""
    plan = scheduler.dispatch()
    placed = len(plan.places)
    return Outcome(placed, placed >= FULL and not plan.waits)


_run: Callable[[], Outcome] = one_pass
_current = Dispatcher(_run)


def have_done(run: Callable[[], Outcome]) -> None:
    """Say how this process's passes are done from now on."""
    global _run
    _run = run
    _begin_anew()


def nudge() -> None:
    """Ask this process's dispatcher for a pass; costs nothing and raises nothing."""
    _current.nudge()


def flush(timeout: float = 5.0) -> bool:
    """Wait until the passes asked for here were run; for processes that end soon."""
    return _current.flush(timeout)


def _begin_anew() -> None:
    global _current
    _current = Dispatcher(_run)


os.register_at_fork(after_in_child=_begin_anew)  # its parent's thread is not its own
