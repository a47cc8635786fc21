"""Chunks on their way through the network: some at once, out in the order they went in."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from inference.bulk import Answers
from inference.chunk import Chunk
from inference.stop import Stop

LOOK_EVERY = 0.1  # seconds, while a pass takes longer

Then = Callable[[Answers], object]


class Flow:
    """`width` says how many chunks may be predicted at once; the next one waits behind them.

    What is to be done with the answers is called by the thread that pushes. `look` is called
    while it waits and may end that by raising.
    """

    def __init__(
        self,
        predict: Callable[[Chunk], Answers],
        *,
        width: Callable[[], int],
        most: int,
        look: Callable[[], object],
    ) -> None:
        self._predict, self._width, self._look = predict, width, look
        self._pool = ThreadPoolExecutor(most, "shard-network")
        self._free, self._wide, self._running = threading.Condition(), 1, 0
        self._is_closed, self._stop = False, Stop()
        self.seconds = 0.0  # of processor time that the passes took
        self._ahead: deque[tuple[Future[Answers] | None, Callable[..., object]]]
        self._ahead, self._flying = deque(), 0

    @property
    def is_empty(self) -> bool:
        return not self._ahead

    def push(self, chunk: Chunk, then: Then) -> None:
        """Returns once no more than one of those that went in waits for its turn."""
        self._ahead.append((self._pool.submit(self._pass, chunk), then))
        self._flying += 1
        while self._flying > self._look_around():
            self._next()

    def behind(self, call: Callable[[], object]) -> None:
        """Call it once the answers to all before have been taken."""
        if self.is_empty:
            call()
        else:
            self._ahead.append((None, call))

    def drain(self) -> None:
        while self._ahead:
            self._next()

    def salvage(self, seconds: float) -> None:
        """Take the answers that come in that time, whatever `look` says; the rest is left."""
        end = time.monotonic() + seconds
        with suppress(Exception):
            while self._ahead:
                found = self._ahead[0][0]
                if found is not None:
                    found.result(max(0.0, end - time.monotonic()))
                self._next()

    def close(self) -> None:
        """Not waited for: one pass of a slow model would hold up a cancel, if it cannot be stopped."""
        self._stop.now()
        with self._free:
            self._is_closed = True
            self._free.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look_around(self) -> int:
        wide = self._width()
        with self._free:
            if wide > self._wide:
                self._free.notify_all()
            self._wide = wide
        return wide

    def _pass(self, chunk: Chunk) -> Answers:
        """One of those that may be computed at once; the others wait for their turn."""
        with self._free:
            self._free.wait_for(lambda: self._is_closed or self._running < self._wide)
            if self._is_closed:
                raise CancelledError
            self._running += 1
        began = time.thread_time()
        try:
            with self._stop:
                return self._predict(chunk)
        finally:
            with self._free:
                self._running -= 1
                self.seconds += time.thread_time() - began
                self._free.notify_all()

    def _next(self) -> None:
        found, call = self._ahead[0]
        if found is not None:
            call = partial(call, self._result(found))
            self._flying -= 1
        self._ahead.popleft()
        try:
            call()
        except BaseException:
            self._ahead.clear()  # none of the others may be taken for all there is
            raise
        while self._ahead and self._ahead[0][0] is None:
            self._ahead.popleft()[1]()

    def _result(self, found: Future[Answers]) -> Answers:
        while True:
            try:
                return found.result(LOOK_EVERY)
            except TimeoutError:
                if found.done():
                    raise
                self._look()
