"""The hands that a batch's own worker has beside its own."""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait

from django.conf import settings

from inference import memory
from inference.cache import Facts
from inference.claims import Claims
from inference.hand import ALIVE
from inference.spare import SILENT_AFTER, Spare
from inference.standby import Order

MOST = 7
LOOK_EVERY = 0.1  # seconds
ENDS_WITHIN = 0.2  # seconds, once it is told to; and again, once it is killed
STANDS_STILL = 10.0  # seconds without a word of a hand
NEVER_BEGINS = SILENT_AFTER + 1.0  # seconds; by then the spare is seen to be silent
SEEN_AFTER = 1.0  # seconds after which what a new hand computes is seen
AGAIN_AFTER = 10.0  # seconds after one has left because others needed its core
LARGEST = 256 * 1024**2  # bytes of a model that each hand may load again
WORTH = 0.6  # seconds of work that are left
HAND = 256 * 1024**2  # bytes that a hand takes beside its model
# The same where it must import torch first.
WORTH_TORCH = 20.0
HAND_WITH_TORCH = 1024**3


@dataclass(eq=False)
class Hand:
    """One process, as its line tells of it."""

    line: socket.socket
    heard: float  # when it last gave a sign of life
    pid: int = 0  # once it has told

    def has_ended(self, now: float) -> bool:
        """Read a word of it; call it when there is something to read."""
        words = self.line.recv(64)
        self.heard = now
        if words and words != ALIVE:
            self.pid = int(words)
        return not words

    def let_go(self) -> None:
        with suppress(OSError):
            self.line.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Hands:
    """Processes that take shards of one batch in this worker's name; none without a spare.

    `model_size` is in bytes, of the model as it is loaded here.
    """

    def __init__(
        self,
        spare: Spare | None,
        claims: Claims,
        facts: Facts,
        *,
        model_size: int = 0,
        needs_torch: bool = False,
        free: Callable[[], int] = memory.free,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spare, self._claims, self._facts = spare, claims, facts
        self._free, self._monotonic = free, monotonic
        self._worth = WORTH_TORCH if needs_torch else WORTH
        self._size = HAND_WITH_TORCH if needs_torch else HAND
        # Files may be smaller than what they are unpacked to.
        self._model_size = max(facts.size, model_size)
        self._hands: list[Hand] = []
        self._next = -math.inf  # when more may be asked for
        self.asked = 0

    def have(self, more: int, left: float) -> bool:
        """Have so many more if there is memory, and so many seconds of work are worth it.

        Whether there are any.
        """
        before = len(self._hands)
        self._hear(0.0)
        now = self._monotonic()
        if len(self._hands) < before:
            self._next = now + AGAIN_AFTER
        self._forget_silent(now)
        most = min(MOST, settings.ENVIRONMENT.batch_processes - 1)
        more = min(more, most - len(self._hands))
        if left < self._worth or self._model_size > LARGEST or now < self._next:
            more = 0
        for _ in range(more):
            if self._free() < 2 * (self._size + self._model_size):
                break
            line = self._spare.hand(self._order()) if self._spare else None
            if line is None:
                break
            self._hands.append(Hand(line, now))
            self._next, self.asked = now + SEEN_AFTER, self.asked + 1
        return bool(self._hands)

    def wait(self, are_wanted: Callable[[], object]) -> None:
        """Until all have ended or stand still, or none is wanted. `are_wanted` may end it by raising."""
        while self._hands and are_wanted():
            self._hear(LOOK_EVERY)
            latest = max((one.heard for one in self._hands), default=0.0)
            if self._monotonic() - latest > STANDS_STILL:
                break
        self.end()

    def let_go(self) -> None:
        """Have them leave; nothing is waited for."""
        for one in self._hands:
            one.let_go()

    def end(self) -> None:
        """Have them leave now; who does not is killed."""
        self.let_go()
        self._hear_until_ended()
        for one in self._hands:
            one.kill()
        self._hear_until_ended()
        for one in self._hands:
            one.line.close()  # one that stands still in the kernel, or never told who it is
        self._hands.clear()

    def _forget_silent(self, now: float) -> None:
        """Have others in their place: the spare has not forked these."""
        for one in self._hands[:]:
            if not one.pid and now - one.heard > NEVER_BEGINS:
                one.line.close()
                self._hands.remove(one)

    def _hear_until_ended(self) -> None:
        end = self._monotonic() + ENDS_WITHIN
        while self._hands and (left := end - self._monotonic()) > 0:
            self._hear(left)

    def _hear(self, seconds: float) -> None:
        """What they say within that time, until one of them does; those that ended are gone."""
        lines = {one.line: one for one in self._hands}
        for line in wait(list(lines), seconds):
            one = lines[line]  # type: ignore[index]
            if one.has_ended(self._monotonic()):
                one.line.close()
                self._hands.remove(one)

    def _order(self) -> Order:
        claims = self._claims
        return {
            "task": claims.task,
            "attempt": claims.attempt,
            "holder": claims.holder,
            "version": self._facts.version,
        }
