"""What a hand does: it takes shards of one batch until none is free."""

from __future__ import annotations

import gc
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from inference import loading, memory
from inference.bulk import Batch, ByModel
from inference.claims import Claims
from inference.ending import AWAY, Ended
from inference.memory import COLLECT_EVERY
from inference.work import Work
from registry.errors import Problem
from registry.models import Stale, Task

log = logging.getLogger(__name__)

NICE = 5  # behind the worker, which answers requests meanwhile
LOOK_EVERY = 0.5  # seconds
ALIVE = b"."
ENOUGH = 0.4  # of a core; a hand that gets less leaves


class Lent(Claims):
    """Claims in the worker's name: it keeps them, and frees them when the hand is gone."""

    def give_back(self, done: Mapping[int, int]) -> None:
        self.note(done)


class Look:
    """Raises Ended once the worker has no more use for this hand, or others have for its core."""

    def __init__(
        self,
        line: socket.socket,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        computed: Callable[[], float] = time.process_time,
    ) -> None:
        self._line, self._monotonic, self._computed = line, monotonic, computed
        self._seen = monotonic(), computed()

    def __call__(self) -> None:
        if wait([self._line], 0):
            raise Ended("release")
        now = self._monotonic()
        spent = now - self._seen[0]
        if spent >= LOOK_EVERY:
            with suppress(BlockingIOError):  # nobody reads them yet
                self._line.send(ALIVE, socket.MSG_DONTWAIT)
            seen, self._seen = self._seen, (now, self._computed())
            if self._seen[1] - seen[1] < ENOUGH * spent:
                raise Ended("release")


def work(order: Mapping[str, Any], line: socket.socket) -> None:
    """Take part in the batch of the order; what goes wrong is the worker's to find."""
    os.nice(NICE)
    gc.set_threshold(COLLECT_EVERY)
    memory.hold_to_share()
    task = int(order["task"])
    try:
        facts = loading.look(int(order["version"]))
        if facts is None:
            return
        model, look = loading.load(facts), Look(line)
        claims = Lent(task, int(order["attempt"]), str(order["holder"]), backwards=True)
        batch = Batch.of(Task.objects.get(pk=task))
        Work(batch, claims, look=look, is_alone=False).run(ByModel(batch, model, facts))
    except (Stale, Ended) as end:
        log.info("A hand leaves task %s: %s", task, end)
    except Problem as problem:
        log.warning("A hand leaves task %s: %s", task, problem.detail)
    except (*AWAY, OSError) as error:
        log.warning("A hand leaves task %s: %s", task, error)
