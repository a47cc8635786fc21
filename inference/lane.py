"""Requests gathered into batches without a timer: what came while a batch was out goes next.

For each address a bounded line, first in first out; a batch goes to the worker that has the model
and the least to do. All of it runs in one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from inference import frames
from inference.frames import Answer, Status
from inference.links import Place
from inference.peer import Flight, Peer
from inference.predictor import BATCH
from registry.errors import Problem

log = logging.getLogger(__name__)

IN_FLIGHT = 2  # batches of one version at one worker: one is computed, one is read
MOST_WAITING = 1024  # requests for one address
MOST_BYTES = 256 * 1024  # of a batch of several requests
LARGEST = 128  # requests of a batch, however quick they are
AIM = 0.02  # seconds that a batch of quick requests may take
TRIES = 3  # workers that may die of a request
LOOK_EVERY = 0.25  # seconds between looks at deadlines
DISCOVER_EVERY = 2.0  # seconds; more often while no worker is there
RETRY_AFTER = 2.0  # seconds


@dataclass(frozen=True)
class Found:
    """The version that an address means now; `batch` is its best number of items, or 0."""

    version: int
    model: str
    number: int
    batch: int


class Request:
    """One client's list of items. `answer` is called once, with what came of it.

    `deadline` is a moment of the monotonic clock.
    """

    __slots__ = (
        "address", "answer", "arrived", "deadline", "is_gone", "items", "tries",
    )  # fmt: skip

    def __init__(
        self,
        address: str,
        items: bytes,
        deadline: float,
        answer: Callable[[int, bytes, Found | None], None],
    ) -> None:
        self.address, self.items, self.deadline = address, items, deadline
        self.answer, self.tries, self.is_gone = answer, 0, False
        self.arrived = 0

    def end(
        self, status: int, content: bytes = b"", found: Found | None = None
    ) -> None:
        if not self.is_gone:
            self.is_gone = True
            self.answer(status, content, found)


class Lookups(Protocol):
    """What the lane asks the database; `known` answers at once or not at all."""

    def known(self, address: str) -> Found | None: ...

    async def find(self, address: str) -> Found | None: ...

    async def places(self) -> tuple[list[Place], bool]:
        """The workers' lines, and whether an inference worker is up at all."""
        ...


class _Queue:
    """The requests for one address; `seconds` of work a request lately."""

    __slots__ = ("address", "flights", "is_looking", "seconds", "waiting")

    def __init__(self, address: str) -> None:
        self.address, self.waiting = address, deque[Request]()
        self.seconds, self.is_looking = 0.0, False
        self.flights = 0  # batches that are out


class Lane:
    def __init__(self, lookups: Lookups, *, timeout: float) -> None:
        self._lookups, self._timeout = lookups, timeout
        self._queues: dict[str, _Queue] = {}
        self._peers: dict[Place, Peer] = {}
        self._flying: set[Request] = set()
        self._is_any_up = True
        self._arrived = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._discover_now = asyncio.Event()

    def begin(self) -> None:
        for work in (self._keep_discovering(), self._keep_looking()):
            self._spawn(work)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for peer in list(self._peers.values()):
            peer.close()

    @property
    def outstanding(self) -> int:
        waiting = sum(len(queue.waiting) for queue in self._queues.values())
        return waiting + len(self._flying)

    def ask(self, request: Request) -> None:
        """Put it in line; it is answered with a Problem `busy` if the line is full."""
        queue = self._queues.get(request.address)
        if queue is None:
            queue = self._queues[request.address] = _Queue(request.address)
        if len(queue.waiting) >= MOST_WAITING:
            text = f"{len(queue.waiting)} requests wait for {request.address} already."
            wait = max(1.0, len(queue.waiting) * queue.seconds)
            request.end(*_told(Problem("busy", text, retry_after=wait)))
            return
        self._arrived += 1
        request.arrived = self._arrived
        queue.waiting.append(request)
        self._pump(queue)

    def _pump(self, queue: _Queue) -> None:
        while queue.waiting and not queue.is_looking:
            if queue.flights >= IN_FLIGHT * max(1, len(self._peers)):
                return
            found = self._lookups.known(queue.address)
            if found is None:
                queue.is_looking = True
                self._spawn(self._find(queue))
                return
            peer = self._choose(found.version, len(queue.waiting), found.batch)
            if peer is None:
                self._look_for_workers()
                return
            if batch := self._take(queue, found):
                self._send(queue, found, peer, batch)

    async def _find(self, queue: _Queue) -> None:
        """Look the address up for those who wait; it may mean something else to later ones."""
        latest = self._arrived
        try:
            found = await self._lookups.find(queue.address)
        except Exception as error:
            log.warning("%s could not be looked up: %r", queue.address, error)
            found = None
        queue.is_looking = False
        if found is None:
            self._leave_all(queue, latest)
        elif self._lookups.known(queue.address) is None:
            peer = self._choose(found.version, len(queue.waiting), found.batch)
            if peer is None:
                self._look_for_workers()
                return
            if batch := self._take(queue, found, latest):
                self._send(queue, found, peer, batch)
        self._pump(queue)

    def _look_for_workers(self) -> None:
        if all(one.is_stuck for one in self._peers.values()):
            self._discover_now.set()

    def _leave_all(self, queue: _Queue, latest: int) -> None:
        """Let the other lane say what is the matter to those who came until then."""
        while queue.waiting and queue.waiting[0].arrived <= latest:
            queue.waiting.popleft().end(Status.ODD)

    def _choose(self, version: int, waiting: int, batch: int) -> Peer | None:
        """The worker for the next batch; None if it has to wait."""
        live = [one for one in self._peers.values() if not one.is_stuck]
        having = [one for one in live if version in one.versions or one.flying[version]]
        free = [one for one in having if one.flying[version] < IN_FLIGHT]
        if not free:
            # Another one loads the model only if it has nothing to do, or nobody has it.
            idle = [one for one in live if one not in having and not one.outstanding]
            if having:
                free = idle if waiting > (batch or BATCH) else []
            else:
                free = live
        return min(free, key=lambda one: one.outstanding, default=None)

    def _take(
        self, queue: _Queue, found: Found, latest: int | None = None
    ) -> list[Request]:
        """The next batch, of those who came until then; without those whose client left."""
        most = found.batch or BATCH
        if queue.seconds:
            most = max(most, min(LARGEST, int(AIM / queue.seconds)))
        batch: list[Request] = []
        size, waiting = 0, queue.waiting
        while waiting and len(batch) < most:
            request = waiting[0]
            if latest is not None and request.arrived > latest:
                break
            if request.is_gone:
                waiting.popleft()
                continue
            # What a worker died of goes alone, so that it takes nobody along again.
            is_alone = request.tries > 0
            if batch and (is_alone or size + len(request.items) > MOST_BYTES):
                break
            batch.append(waiting.popleft())
            size += len(request.items)
            if is_alone:
                break
        return batch

    def _send(
        self, queue: _Queue, found: Found, peer: Peer, batch: list[Request]
    ) -> None:
        def reply(seconds: float, answers: Sequence[Answer]) -> None:
            spent = seconds / len(batch)
            queue.seconds = (
                spent if not queue.seconds else (0.8 * queue.seconds + 0.2 * spent)
            )
            self._flying.difference_update(batch)
            queue.flights -= 1
            # Sent before the answers are written: the worker is not to wait for them.
            self._pump(queue)
            for request, (status, content) in zip(batch, answers, strict=True):
                request.end(status, content, found)

        def lost() -> None:
            self._flying.difference_update(batch)
            queue.flights -= 1
            for request in reversed(batch):
                request.tries += 1
                if request.tries >= TRIES:
                    text = f"{TRIES} workers ended over this request."
                    request.end(*_told(Problem("internal", text)))
                elif not request.is_gone:
                    queue.waiting.appendleft(request)
            self._queues.setdefault(queue.address, queue)
            asyncio.get_running_loop().call_soon(self._pump, queue)

        self._flying.update(batch)
        queue.flights += 1
        left = max(one.deadline for one in batch) - time.monotonic()
        flight = Flight(found.version, len(batch), reply, lost)
        peer.ask(flight, left, [one.items for one in batch])

    async def _keep_looking(self) -> None:
        """End what is past its deadline, and see that the workers are alive."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = time.monotonic()
            for queue in list(self._queues.values()):
                while queue.waiting and queue.waiting[0].deadline <= now:
                    self._time_out(queue.waiting.popleft())
            for request in [one for one in self._flying if one.deadline <= now]:
                self._flying.discard(request)
                self._time_out(request)
            for peer in list(self._peers.values()):
                if peer.outstanding or peer.is_stuck:
                    peer.look(now)
                if peer.is_stuck and any(not o.is_stuck for o in self._peers.values()):
                    peer.give_up()

    def _time_out(self, request: Request) -> None:
        text = f"No inference worker has answered within {self._timeout:g} s."
        request.end(*_told(Problem("timeout", text, retry_after=RETRY_AFTER)))

    async def _keep_discovering(self) -> None:
        while True:
            try:
                there, self._is_any_up = await self._lookups.places()
                await self._meet(there)
            except Exception as error:
                log.warning("The workers could not be looked up: %r", error)
            if not self._peers and not self._is_any_up:
                for queue in self._queues.values():
                    self._leave_all(queue, self._arrived)
            self._discover_now.clear()
            pause = DISCOVER_EVERY
            if not self._peers and any(q.waiting for q in self._queues.values()):
                pause = 0.2
            try:
                await asyncio.wait_for(self._discover_now.wait(), pause)
                await asyncio.sleep(0.1)
            except TimeoutError:
                pass

    async def _meet(self, there: list[Place]) -> None:
        for place, peer in list(self._peers.items()):
            if place not in there:
                peer.close()
        for place in there:
            if place in self._peers:
                continue
            try:
                self._peers[place] = await Peer.connect(place, self._lost)
            except OSError as error:
                log.info("%s cannot be reached: %s", place.name, error)
                continue
            for queue in list(self._queues.values()):
                self._pump(queue)

    def _lost(self, peer: Peer) -> None:
        if self._peers.get(peer.place) is peer:
            del self._peers[peer.place]
        self._discover_now.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _told(problem: Problem) -> tuple[int, bytes]:
    told = {**problem.as_dict(), "retry_after": problem.retry_after}
    return Status.PROBLEM, frames.dumps(told)
