"""One client's connection: predictions take the raw lane, everything else goes to Django.

The raw lane reads plain requests with a key that may predict. Whatever is odd about one, its bytes
go to Django as they came, so what is refused is refused by the same code in the same words.
"""

from __future__ import annotations

import asyncio
import json
import time
from random import getrandbits
from typing import TYPE_CHECKING, Any

from compass import asks, heads, replies, turns
from compass.asked import Asked
from compass.chain import Chain
from compass.chunks import Chunked
from compass.ended import is_reset
from compass.heads import Head
from compass.room import LARGE
from compass.tunnel import Tunnel
from inference.frames import Status, dumps
from inference.requests import Request
from inference.routes import Found
from registry.errors import Problem

if TYPE_CHECKING:
    from compass.front import Front

MOST_EARLY = 64 * 1024  # bytes read ahead of an answer
PATIENCE = 5.0  # seconds for a request to be whole; then Django waits for it
SOON = 0.05  # seconds until who has left is known to have
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LEAVING = "The server was stopped before it answered; ask again."
LEFT = "The server was stopped over this request; whether it did what was asked is not known."


def new_id() -> str:
    return f"{getrandbits(128):032x}"


class Visitor(asyncio.Protocol):
    def __init__(self, front: Front) -> None:
        self.front = front
        self.transport: Any = None
        self.tunnel: Tunnel | None = None
        self.since = 0.0  # when what is in `early` began to come
        self._early = b""
        self._asked: Asked | None = None
        self._chunked: Chunked | None = None  # a body that is not whole
        self._held = 0  # bytes of the front's room
        self._is_paused = self._is_full = self.is_in_line = False
        self._has_ended = False  # the client writes no more, and waits for its answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.front.visitors.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.front.visitors.discard(self)
        self.front.turns.end(self)
        self._give_room_back()
        if self._asked is not None:
            self._asked.leave()
            self._asked = None
        if self.tunnel is not None:
            self.tunnel.close()

    def eof_received(self) -> bool:
        """The client writes no more; it may read on, or have left."""
        if self._has_ended:
            return True  # told again after a pause
        if self.is_in_line:
            self.take_turn()
        if self._is_djangos and self.tunnel is not None and not self.tunnel.is_owing:
            self.tunnel.end_requests()
            return True
        if self._chunked is not None:
            self.refuse(Problem("malformed", "The body ends in its middle."))
            return True
        is_slow = self._is_full and bool(self._early)  # it has answers to read first
        if self._asked is None and not self._is_djangos and not is_slow:
            return False
        self._has_ended = True
        # Who has left answers this by a reset; who waits knows that the answer is still to come.
        self.transport.write(CONTINUE)
        asyncio.get_running_loop().call_later(SOON, self._see_if_gone)
        return True

    def _see_if_gone(self) -> None:
        if self._has_ended and self.transport is not None:
            descriptor = self.transport.get_extra_info("socket").fileno()
            if is_reset(descriptor):
                self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None and self.tunnel.is_busy:
            self.tunnel.send(data)
            return
        if not self._early:
            self.since = time.monotonic()
        self._early = self._early + data if self._early else data
        if not self._is_held:
            self._advance()
        elif len(self._early) > MOST_EARLY:
            self.pause_reading()

    @property
    def _is_held(self) -> bool:
        """Whether what comes has to wait: for an answer, or until answers were read."""
        return self._asked is not None or self.is_in_line or self._is_full

    @property
    def is_busy(self) -> bool:
        """Whether a request came, or a part of one, that has no answer yet."""
        return bool(self._early) or self._is_held or self._is_djangos

    @property
    def _is_djangos(self) -> bool:
        return self.tunnel is not None and self.tunnel.is_busy

    def pause_writing(self) -> None:
        self._is_full = True
        if self.tunnel is not None and self.tunnel.transport is not None:
            self.tunnel.transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_full = False
        if self.tunnel is not None and self.tunnel.transport is not None:
            self.tunnel.transport.resume_reading()
        if not self._is_held and not self._is_djangos:
            self.go_on()

    def pause_reading(self) -> None:
        if self.transport is not None and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None and self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()

    def look(self, now: float) -> None:
        """Let Django have what does not get whole; it knows how long to wait."""
        self._see_if_gone()
        if self._early and not self._is_held and now - self.since > PATIENCE:
            self.pass_on(b"")

    def take_turn(self) -> None:
        """Django may have the submit that waited for it."""
        self.is_in_line = False
        self.pass_on(b"")

    def django_answered(self, *, is_last: bool) -> None:
        self.front.turns.end(self)
        self._give_room_back()
        if is_last:
            self.close()
        else:
            self.go_on()

    def go_on(self) -> None:
        """The connection is free for the next request."""
        if self._is_full:
            return
        if self._early:
            self.since = time.monotonic()
            self._advance()
        if self._is_djangos:
            return
        if self._has_ended and not self._is_held:
            self.close()
        elif not self._is_held or len(self._early) <= MOST_EARLY:
            self.resume_reading()

    def pass_on(self, data: bytes) -> None:
        """Send it to Django, with what came after it."""
        data, self._early = data + self._early, b""
        self._asked = self._chunked = None
        if len(data) <= LARGE:
            self._give_room_back()
        if self.transport is None:
            return
        if self.tunnel is None:
            self.tunnel = Tunnel(self)
            self.pause_reading()
            self.front.open_tunnel(self.tunnel)
        else:
            self.resume_reading()
        self.tunnel.send(data)

    def lose_tunnel(self, *, may_go_on: bool) -> None:
        """Django's server ended the connection, perhaps only because nothing came by it."""
        self.tunnel = None
        is_held = self._asked is not None or self.is_in_line
        if self.transport is not None and not is_held and not may_go_on:
            self.transport.close()

    def refuse(self, problem: Problem) -> None:
        """Answer in Django's place, for the last time on this connection."""
        self._early, self._chunked = b"", None
        if self.transport is not None:
            content = replies.bad(problem, new_id(), replies.SECURE, is_last=True)
            self.transport.write(content)
            self.transport.close()

    def give_up(self) -> None:
        """Close the connection, and say so to who waits for an answer that has not begun."""
        if self._is_djangos:
            if self.tunnel is not None and self.tunnel.may_be_refused:
                self.refuse(Problem("busy", LEFT, retry_after=1))
        elif self._early or self._asked is not None or self.is_in_line:
            self.refuse(Problem("busy", LEAVING, retry_after=1))
        self.close()

    def close(self, *, at_once: bool = False) -> None:
        if self.transport is not None:
            self.transport.abort() if at_once else self.transport.close()

    def _advance(self) -> None:
        data = self._early
        if not data.startswith(heads.LINE):
            if not heads.LINE.startswith(data):
                self._submit_or_pass_on(data)
            return
        end = data.find(b"\r\n\r\n", len(heads.LINE) - 2)
        if end < 0:
            if len(data) > heads.MOST:
                self.pass_on(b"")
            return
        head = heads.read(data[:end])
        if head is None:
            self._submit_or_pass_on(data)
            return
        size = end + 4 + head.length
        if size > LARGE and not self._held:
            self._held = self.front.room.take(size)
            if not self._held:
                self.pass_on(b"")  # Django reads few at a time, and from the socket
                return
        if len(data) >= size:
            self._early = data[size:]
            self._ask(head, data[:size], end + 4)

    def _give_room_back(self) -> None:
        if self._held:
            self.front.room.give_back(self._held)
            self._held = 0

    def _submit_or_pass_on(self, data: bytes) -> None:
        size = turns.size(data)
        if size is None:
            self._chunked = self._chunked or Chunked.of(data)
            try:
                if self._chunked is None or self._chunked.is_over(data):
                    self.pass_on(b"")
            except Problem as problem:
                self.refuse(problem)
        elif 0 < size <= len(data):
            self.is_in_line = True
            self.front.turns.ask(self)

    def _ask(self, head: Head, raw: bytes, at: int) -> None:
        ask = asks.read(raw, at)
        if ask is None:
            self.pass_on(raw)
            return
        address, items, key, addresses = ask
        asked = self._asked = Asked(self, head, raw)
        deadline, lane = asked.began + self.front.timeout, self.front.lane
        if addresses is None:
            asked.request = Request(address, items, deadline, asked.end, key)
        else:
            asked.chain = Chain(asked, lane, addresses, items, key, deadline)
        may = self.front.database.may_predict(head.digest)
        if may is None:
            self.front.spawn(self._look_at_key(asked))
        elif may:
            asked.ask(lane)
        else:
            self.pass_on(raw)

    async def _look_at_key(self, asked: Asked) -> None:
        try:
            may = await self.front.database.look_at_key(asked.head.digest)
        except Exception:
            may = False  # Django says what is the matter
        if asked.visitor is None or self._asked is not asked:
            return
        if may:
            asked.ask(self.front.lane)
        else:
            self.pass_on(asked.raw)

    def answered(
        self, asked: Asked, status: int, content: bytes, found: Found | None
    ) -> None:
        if self._asked is not asked or self.transport is None:
            return
        if status == Status.ODD:
            self.pass_on(asked.raw)
            return
        self._asked = None
        self._give_room_back()
        head = asked.head
        request_id = head.request_id or new_id()
        took = time.monotonic() - asked.began
        is_last = not head.keeps_alive or (self.front.is_leaving and not self._early)
        is_good = status == Status.OUTPUTS and found is not None
        self.front.counter.tally.add(took, not is_good)
        if is_good:
            assert found is not None
            tail = b',"took":%.6f}' % took
            if asked.chain is not None:
                fell_back = dumps(asked.chain.reasons.shown())
                tail = b'%b,"fell_back":%b}' % (tail[:-1], fell_back)
            self.transport.write(
                replies.good(found.head, content, tail, request_id, is_last)
            )
        else:
            problem = Problem(**json.loads(content))
            self.transport.write(replies.bad(problem, request_id, is_last=is_last))
        if is_last:
            self.transport.close()
        else:
            self.go_on()
