"""What clients ask of the lane, and the line that requests for one address stand in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from inference import frames
from inference.crew import Places
from inference.frames import Status
from inference.predictor import BATCH
from inference.routes import Found, draw
from registry.errors import Problem

MOST_BYTES = 256 * 1024  # of a batch of several requests
LARGEST = 128  # requests of a batch, however quick they are
DELETED = b'{"code":"unknown_model"'
AIM = 0.006  # seconds that a batch of quick requests may take; longer ones make answers uneven


class Request:
    """One client's list of items. `answer` is called once, with what came of it.

    `deadline` is a moment of the monotonic clock, `limit` the seconds until it where they are not
    the lane's own. `key` decides which side of a split answers; without one chance does.
    """

    __slots__ = (
        "address", "answer", "arrived", "deadline", "draw", "is_gone", "items", "key", "limit",
        "tries",
    )  # fmt: skip
    draw: float

    def __init__(
        self,
        address: str,
        items: bytes,
        deadline: float,
        answer: Callable[[int, bytes, Found | None], None],
        key: str | None = None,
        limit: float = 0.0,
    ) -> None:
        self.address, self.items, self.deadline = address, items, deadline
        self.answer, self.key, self.limit = answer, key, limit
        self.tries, self.is_gone, self.arrived = 0, False, 0

    def end(
        self, status: int, content: bytes = b"", found: Found | None = None
    ) -> None:
        if not self.is_gone:
            self.is_gone = True
            self.answer(status, content, found)

    def side(self, found: Found) -> Found:
        """The version of a split that answers this request."""
        try:
            return found.side(self.draw)
        except AttributeError:
            self.draw = draw(found, self.key)
        return found.side(self.draw)


class Queue:
    """The requests for one address, first in first out; `seconds` of work a request lately."""

    __slots__ = (
        "address", "flights", "is_alone", "is_due", "is_looking", "seconds", "waiting", "width",
    )  # fmt: skip

    def __init__(self, address: str) -> None:
        self.address, self.waiting = address, deque[Request]()
        self.seconds, self.is_looking = 0.0, False
        self.is_alone = False  # what is out has lost a worker before
        self.is_due = False  # a batch is about to be sent
        self.flights, self.width = 0, 1  # batches that are out, versions that answer

    def sides(self, found: Found) -> list[Found]:
        """The versions that those who wait are to be answered by, whose turn it is first."""
        sides: list[Found] = []
        for request in self.waiting:
            if request.is_gone or (side := request.side(found)) in sides:
                continue
            sides.append(side)
            if len(sides) == self.width:
                break
        return sides or [found]

    def take(self, found: Found, latest: int | None = None) -> list[Request]:
        """The next batch, of those who came until then; without those whose client left."""
        most, waiting = self._most(found), self.waiting
        batch: list[Request] = []
        size = 0
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

    def take_side(
        self, found: Found, side: Found, latest: int | None = None
    ) -> list[Request]:
        """As `take`, of those whom one side of a split answers; the others keep their place."""
        others, own = deque[Request](), deque[Request]()
        for request in self.waiting:
            if not request.is_gone:
                (own if request.side(found) is side else others).append(request)
        self.waiting = own
        batch = self.take(side, latest)
        rest = [*own, *others]
        self.waiting = deque(sorted(rest, key=lambda one: one.arrived))
        return batch

    def take_late(self, now: float) -> list[Request]:
        """Those who are past their deadline; not all have the same time."""
        late = [one for one in self.waiting if one.deadline <= now]
        if late:
            self.waiting = deque(one for one in self.waiting if one.deadline > now)
        return late

    def _most(self, found: Found) -> int:
        most = found.batch or BATCH
        if self.seconds:
            most = max(most, min(LARGEST, int(AIM / self.seconds)))
        return most


class Lookups(Places, Protocol):
    """What the lane asks the database; `known` answers at once or not at all."""

    def known(self, address: str) -> Found | None: ...

    async def find(self, address: str) -> Found:
        """Raises Problem for what can be asked for nowhere."""
        ...

    def distrust(self) -> None:
        """What was looked up until now does not hold for what is asked from now on."""
        ...


def tells_of_deletion(status: int, content: bytes) -> bool:
    """Whether a worker says that the version is gone; it was there when it was asked for."""
    return status == Status.PROBLEM and content.startswith(DELETED)


def told(problem: Problem) -> tuple[int, bytes]:
    """The status and content of a request that ends with that problem."""
    found = {**problem.as_dict(), "retry_after": problem.retry_after}
    return Status.PROBLEM, frames.dumps({**found, "errors": problem.errors})
