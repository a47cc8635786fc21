"""Requests gathered into batches without a timer: what came while a batch was out goes next.

For each address a bounded line, first in first out; a batch goes to the worker that has the model
and the least to do. All of it runs in one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from inference.crew import IN_FLIGHT, Crew
from inference.frames import Answer, Status
from inference.peer import Flight, Peer
from inference.requests import LARGEST, Lookups, Queue, Request, tells_of_deletion, told
from inference.routes import Found
from registry.errors import Problem

log = logging.getLogger(__name__)

MOST_WAITING = 1024  # requests for one address
MOST_QUEUES = 1024  # addresses, before those that nobody waits at are forgotten
SHORT = (
    0.0005  # seconds a request; of longer ones each goes as soon as a worker is free
)
TRIES = 3  # workers that may die of a request
LOOK_EVERY = 0.25  # seconds between looks at deadlines
RETRY_AFTER = 2.0  # seconds


class Lane:
    def __init__(self, lookups: Lookups, *, timeout: float) -> None:
        self._lookups, self._timeout = lookups, timeout
        self._queues: dict[str, Queue] = {}
        self._crew = Crew(
            lookups, met=self._pump_all, none_up=self._leave_everybody,
            is_wanted=lambda: any(one.waiting for one in self._queues.values()),
        )  # fmt: skip
        self._stalled: dict[str, Queue] = {}  # no worker was free for their version
        self._flying: set[Request] = set()
        self._arrived = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        for work in (self._crew.keep_discovering(), self._keep_looking()):
            self._spawn(work)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._crew.close()

    @property
    def outstanding(self) -> int:
        waiting = sum(len(queue.waiting) for queue in self._queues.values())
        return waiting + len(self._flying)

    def ask(self, request: Request) -> None:
        """Put it in line; it is answered with a Problem `busy` if the line is full."""
        queue = self._queues.get(request.address)
        if queue is None:
            self._tidy()
            queue = self._queues[request.address] = Queue(request.address)
        if len(queue.waiting) >= MOST_WAITING:
            text = f"{len(queue.waiting)} requests wait for {request.address} already."
            wait = max(1.0, len(queue.waiting) * queue.seconds)
            request.end(*told(Problem("busy", text, retry_after=wait)))
            return
        self._arrived += 1
        request.arrived = self._arrived
        queue.waiting.append(request)
        if queue.seconds > SHORT or len(queue.waiting) >= LARGEST:
            self._pump(queue)
        elif not queue.is_due:
            # After what else has come by now: a batch of them all is one way there and back.
            queue.is_due = True
            asyncio.get_running_loop().call_soon(self._pump_due, queue)

    def _pump_due(self, queue: Queue, seen: int = 0) -> None:
        """Send those who came; while a batch is out and each turn brings more, the rest is awaited."""
        count = len(queue.waiting)
        if queue.flights and seen < count < LARGEST:
            asyncio.get_running_loop().call_soon(self._pump_due, queue, count)
            return
        queue.is_due = False
        self._pump(queue)

    def _pump(self, queue: Queue) -> None:
        while queue.waiting and not queue.is_looking:
            most = IN_FLIGHT * queue.width * max(1, len(self._crew.peers))
            if queue.flights >= most:
                return
            # What a worker died of is alone with it: whoever is out beside it would die along.
            if queue.flights and (queue.is_alone or queue.waiting[0].tries):
                return
            found = self._lookups.known(queue.address)
            if found is None:
                queue.is_looking = True
                self._spawn(self._find(queue))
                return
            if not self._send_next(queue, found):
                return

    def _pump_after(self, queue: Queue) -> None:
        """A worker is free again: first for those of other addresses who found it taken."""
        stalled, self._stalled = self._stalled, {}
        for one in stalled.values():
            if one is not queue:
                self._pump(one)
        self._pump(queue)

    def _pump_all(self) -> None:
        for queue in list(self._queues.values()):
            self._pump(queue)

    async def _find(self, queue: Queue) -> None:
        """Look the address up for those who wait; it may mean something else to later ones."""
        latest, found, why = self._arrived, None, b""
        try:
            found = await self._lookups.find(queue.address)
        except Problem as problem:
            why = told(problem)[1]
        except Exception as error:
            log.warning("%s could not be looked up: %r", queue.address, error)
        queue.is_looking = False
        if found is None:
            self._leave_all(queue, latest, why)
        elif self._lookups.known(queue.address) is None and not self._send_next(
            queue, found, latest
        ):
            return
        self._pump(queue)

    def _send_next(self, queue: Queue, found: Found, latest: int | None = None) -> bool:
        """Send a batch of those who came until then; False if it has to wait for a worker."""
        if found.second is None:
            queue.width = 1
            peer = self._crew.choose(found.version, len(queue.waiting), found.batch)
            if peer is not None:
                if batch := queue.take(found, latest):
                    self._send(queue, found, peer, batch)
                return True
        else:
            queue.width = 2
            for side in queue.sides(found):
                peer = self._crew.choose(side.version, len(queue.waiting), side.batch)
                if peer is not None:
                    if batch := queue.take_side(found, side, latest):
                        self._send(queue, side, peer, batch)
                    return True
        self._stalled[queue.address] = queue
        self._crew.seek()
        return False

    def _leave_everybody(self) -> None:
        for queue in self._queues.values():
            self._leave_all(queue, self._arrived)

    def _leave_all(self, queue: Queue, latest: int, why: bytes = b"") -> None:
        """Let the other lane say what is the matter to those who came until then."""
        while queue.waiting and queue.waiting[0].arrived <= latest:
            queue.waiting.popleft().end(Status.ODD, why)

    def _send(
        self, queue: Queue, found: Found, peer: Peer, batch: list[Request]
    ) -> None:
        def reply(seconds: float, answers: Sequence[Answer]) -> None:
            spent = seconds / len(batch)
            queue.seconds = (
                spent if not queue.seconds else (0.8 * queue.seconds + 0.2 * spent)
            )
            self._flying.difference_update(batch)
            queue.flights -= 1
            queue.is_alone = False
            # Sent before the answers are written: the worker is not to wait for them.
            self._pump_after(queue)
            deleted: list[Request] = []
            for request, (status, content) in zip(batch, answers, strict=True):
                if tells_of_deletion(status, content) and request.tries < TRIES - 1:
                    deleted.append(request)
                else:
                    request.end(status, content, found)
            if deleted:  # on its way to the worker: the address may mean another one
                self._lookups.distrust()
                ask_again(deleted)

        def lost() -> None:
            self._flying.difference_update(batch)
            queue.flights -= 1
            queue.is_alone = False
            ask_again(batch)

        def ask_again(some: Sequence[Request]) -> None:
            for request in reversed(some):
                request.tries += 1
                if request.tries >= TRIES:
                    text = f"{TRIES} workers ended over this request."
                    request.end(*told(Problem("internal", text)))
                elif not request.is_gone:
                    queue.waiting.appendleft(request)
            asyncio.get_running_loop().call_soon(self._pump_after, queue)

        self._flying.update(batch)
        queue.flights += 1
        queue.is_alone = batch[0].tries > 0
        left = max(one.deadline for one in batch) - time.monotonic()

        def is_wanted() -> bool:
            return not all(one.is_gone for one in batch)

        flight = Flight(found.version, len(batch), reply, lost, is_wanted)
        peer.ask(flight, left, [one.items for one in batch], found.watch)

    async def _keep_looking(self) -> None:
        """End what is past its deadline, and see that the workers are alive."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = time.monotonic()
            for queue in list(self._queues.values()):
                for request in queue.take_late(now):
                    self._time_out(request)
            for request in [one for one in self._flying if one.deadline <= now]:
                self._flying.discard(request)
                self._time_out(request)
            self._crew.look(now)

    def _time_out(self, request: Request) -> None:
        seconds = request.limit or self._timeout
        text = f"No inference worker has answered within {round(seconds, 1):g} s."
        request.end(*told(Problem("timeout", text, retry_after=RETRY_AFTER)))

    def _tidy(self) -> None:
        """Forget the lines of addresses that nobody waits at, once there are many."""
        if len(self._queues) >= MOST_QUEUES:
            self._queues = {
                address: queue
                for address, queue in self._queues.items()
                if queue.waiting or queue.flights or queue.is_looking
            }

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
