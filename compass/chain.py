"""One prediction on the raw lane that may be answered by one of several models."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from inference.fallback import CANNOT_BE_SERVED, Reasons, share
from inference.frames import Status
from inference.requests import Request, told
from registry.errors import Problem

if TYPE_CHECKING:
    from compass.asked import Asked
    from inference.lane import Lane
    from inference.routes import Found


class Chain:
    """Asks for one address after the other, until one is served or the fault is the client's."""

    def __init__(
        self,
        asked: Asked,
        lane: Lane,
        addresses: list[str],
        items: bytes,
        key: str | None,
        deadline: float,
    ) -> None:
        self._asked, self._lane, self._left = asked, lane, addresses
        self._items, self._key, self._deadline = items, key, deadline
        self.reasons = Reasons()

    def ask(self) -> None:
        now = time.monotonic()
        seconds = share(self._deadline - now, len(self._left))
        request = Request(
            self._left[0], self._items, now + seconds, self._end, self._key, seconds
        )
        self._asked.request = request
        self._lane.ask(request)

    def _end(self, status: int, content: bytes, found: Found | None) -> None:
        if status == Status.OUTPUTS or not content:
            self._asked.end(status, content, found)
            return
        problem = Problem(**json.loads(content))
        if problem.code not in CANNOT_BE_SERVED:
            self._asked.end(Status.PROBLEM, content, found)
            return
        self.reasons.add(self._left.pop(0), problem)
        if self._left:
            self.ask()
        else:
            self._asked.end(*told(self.reasons.none_served()), None)
