"""The hands that a batch's own worker has beside its own."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil
from django.conf import settings

from inference.cache import Facts
from inference.claims import Claims
from inference.spare import Order, Spare

log = logging.getLogger(__name__)

MOST = 7
LOOK_EVERY = 0.1  # seconds
ENDS_WITHIN = 0.3  # seconds, once it is told to
STANDS_STILL = 10.0  # seconds, when nothing is free any more
LARGEST = 256 * 1024**2  # bytes of a model that each hand may load again
WORTH = 0.6  # seconds of work that are left
HAND = 256 * 1024**2  # bytes that a hand takes beside its model
# The same where it must import torch first.
WORTH_TORCH = 10.0
HAND_WITH_TORCH = 1024**3


@dataclass(eq=False)
class Hand:
    """One process, as its line tells of it."""

    line: socket.socket
    pid: int = 0  # once it has told

    def fileno(self) -> int:
        return self.line.fileno()

    def has_ended(self) -> bool:
        """Call it when there is something to read."""
        words = self.line.recv(64)
        if words:
            self.pid = int(words)
            return False
        self.line.close()
        return True

    def let_go(self) -> None:
        with suppress(OSError):
            self.line.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.line.close()


class Hands:
    """Processes that take shards of one batch in this worker's name; none without a spare."""

    def __init__(
        self,
        spare: Spare | None,
        claims: Claims,
        facts: Facts,
        *,
        needs_torch: bool = False,
        free: Callable[[], int] = lambda: int(psutil.virtual_memory().available),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spare, self._claims, self._facts = spare, claims, facts
        self._free, self._monotonic = free, monotonic
        self._worth = WORTH_TORCH if needs_torch else WORTH
        self._size = HAND_WITH_TORCH if needs_torch else HAND
        self._hands: list[Hand] = []
        self.asked = 0

    def have(self, most: int, left: float) -> bool:
        """Have so many in all if there is memory, and so many seconds of work are worth it.

        Whether there are any. One that left is not replaced.
        """
        most = min(most, MOST, settings.ENVIRONMENT.batch_processes - 1)
        if left < self._worth or self._facts.size > LARGEST:
            most = 0
        while self._spare is not None and self.asked < most:
            if self._free() < 2 * (self._size + self._facts.size):
                break
            try:
                self._hands.append(Hand(self._spare.hand(self._order())))
                self.asked += 1
            except OSError as error:
                log.warning("No more hands: %s", error)
                self._spare = None
        return bool(self._hands)

    def wait(self, look: Callable[[], object]) -> None:
        """Until all have ended; one that stands still is killed. `look` may end it by raising."""
        end = self._monotonic() + STANDS_STILL
        while self._hands and self._monotonic() < end:
            look()
            self._drop_ended(LOOK_EVERY)
        self.end()

    def end(self) -> None:
        """Have them leave now; who does not is killed."""
        for one in self._hands:
            one.let_go()
        end = self._monotonic() + ENDS_WITHIN
        while self._hands and (left := end - self._monotonic()) > 0:
            self._drop_ended(left)
        for one in self._hands:
            one.kill()
        self._hands.clear()

    def _drop_ended(self, seconds: float) -> None:
        """Those that have ended, or do within that time."""
        for one in select.select(self._hands, [], [], seconds)[0]:
            if one.has_ended():
                self._hands.remove(one)

    def _order(self) -> Order:
        claims = self._claims
        return {
            "task": claims.task,
            "attempt": claims.attempt,
            "holder": claims.holder,
            "version": self._facts.version,
        }
