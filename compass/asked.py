"""A prediction of the raw lane, from its request to its answer."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from compass import replies
from compass.asks import Ask
from compass.chain import Chain
from compass.heads import Head
from compass.replies import new_id
from inference.frames import Status, dumps
from inference.requests import Request
from inference.routes import Found
from registry.errors import Problem

if TYPE_CHECKING:
    from compass.front import Front
    from compass.visitor import Visitor


class Asked:
    """A prediction that one visitor waits for."""

    __slots__ = ("began", "chain", "front", "head", "raw", "request", "visitor")

    def __init__(self, visitor: Visitor, head: Head, raw: bytes) -> None:
        self.visitor: Visitor | None = visitor
        self.front: Front = visitor.front
        self.head, self.raw, self.began = head, raw, time.monotonic()
        self.request: Request | None = None
        self.chain: Chain | None = None

    def begin(self, ask: Ask) -> None:
        """Ask for it if its key may; Django answers what is refused."""
        address, items, key, addresses = ask
        deadline = self.began + self.front.timeout
        if addresses is None:
            self.request = Request(address, items, deadline, self.end, key)
        else:
            self.chain = Chain(self, self.front.lane, addresses, items, key, deadline)
        may = self.front.database.may_predict(self.head.digest)
        if may is None:
            self.front.spawn(self._look_at_key())
        else:
            self._go(may=may)

    def leave(self) -> None:
        """Nobody waits any more; what is still in line is not computed."""
        self.visitor = None
        if self.request is not None:
            self.request.is_gone = True

    def end(self, status: int, content: bytes, found: Found | None) -> None:
        if self.visitor is None or not self.visitor.waits_for(self):
            return
        if status == Status.ODD:
            self.visitor.pass_on(self.raw)
            return
        took, is_last = time.monotonic() - self.began, self._is_last(self.visitor)
        request_id = self.head.request_id or new_id()
        if status == Status.OUTPUTS and found is not None:
            self.front.counter.tally.add(took)
            tail = self._tail(took)
            answer = replies.good(found.head, content, tail, request_id, is_last)
        else:
            self.front.counter.tally.add(took, is_error=True)
            problem = Problem(**json.loads(content))
            answer = replies.bad(problem, request_id, is_last=is_last)
        self.visitor.answer(answer, is_last=is_last)

    def _tail(self, took: float) -> bytes:
        tail = b',"took":%.6f}' % took
        if self.chain is None:
            return tail
        fell_back = dumps(self.chain.reasons.shown())
        return b'%b,"fell_back":%b}' % (tail[:-1], fell_back)

    def _is_last(self, visitor: Visitor) -> bool:
        is_leaving = self.front.is_leaving and not visitor.has_more
        return is_leaving or not self.head.keeps_alive

    async def _look_at_key(self) -> None:
        try:
            may = await self.front.database.look_at_key(self.head.digest)
        except Exception:
            may = False  # Django says what is the matter
        self._go(may=may)

    def _go(self, *, may: bool) -> None:
        if self.visitor is None or not self.visitor.waits_for(self):
            return
        if not may:
            self.visitor.pass_on(self.raw)
        elif self.chain is not None:
            self.chain.ask()
        elif self.request is not None:
            self.front.lane.ask(self.request)
