"""One client's connection: predictions take the raw lane, everything else goes to Django.

The raw lane reads plain requests with a key that may predict. Whatever is odd about one, its bytes
go to Django as they came, so what is refused is refused by the same code in the same words.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from compass import asks, heads, replies
from compass.admission import Admission
from compass.asked import Asked
from compass.ended import is_reset
from compass.intake import Intake, Next, Prediction
from compass.reading import MOST_EARLY, Reader
from compass.room import LARGE
from compass.tunnel import Tunnel
from registry.errors import Problem

if TYPE_CHECKING:
    from compass.front import Front

LINGER = 2.0  # seconds in which a refused client may still send
PATIENCE = 5.0  # seconds for a request to be whole; then Django waits for it
HEAD_WITHIN = 30.0  # seconds for a head that is counted, as Django's server has it
SOON = 0.05  # seconds until who has left is known to have
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LEAVING = "The server was stopped before it answered; ask again."
LEFT = "The server was stopped over this request; whether it did what was asked is not known."


class Visitor(Reader):
    def __init__(self, front: Front) -> None:
        super().__init__()
        self.front = front
        self.address = ""  # the client's own
        self._asked: Asked | None = None
        self._intake = Intake(front.room)
        self.is_in_line = False
        self._has_ended = False  # the client writes no more, and waits for its answers
        self._is_refused = False  # what still comes is dropped
        self._admission: Admission | None = None  # where there are throttles

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.address = str((transport.get_extra_info("peername") or [""])[0])
        if self.front.throttles is not None:
            self._admission = Admission(self.front.throttles, self.address)
        self.front.visitors.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.front.visitors.discard(self)
        self.front.turns.end(self)
        self._intake.give_room_back()
        if self._asked is not None:
            self._asked.leave()
            self._asked = None
        if self.tunnel is not None:
            self.tunnel.close()

    def eof_received(self) -> bool:
        """The client writes no more; it may read on, or have left."""
        if self._has_ended:
            return True  # told again after a pause
        if self._is_refused:
            return False
        if self.is_in_line:
            self.take_turn()
        is_amid = (
            self._is_djangos and self.tunnel is not None and not self.tunnel.is_owing
        )
        if is_amid and self.tunnel is not None and not self._early:
            self.tunnel.end_requests()
            return True
        if self._intake.is_amid_chunks:
            self.refuse(Problem("malformed", "The body ends in its middle."))
            return True
        is_slow = self._is_full and bool(self._early)  # it has answers to read first
        if self._asked is None and not self._is_djangos and not is_slow:
            return False
        self._has_ended = True
        if not is_amid:  # else it would stand within an answer
            # Who has left answers this by a reset; who waits knows that the answer is still to come.
            self.transport.write(CONTINUE)
            asyncio.get_running_loop().call_later(SOON, self._see_if_gone)
        return True

    def _see_if_gone(self) -> None:
        if not self._has_ended or self.transport is None:
            return
        if is_reset(self.transport.get_extra_info("socket").fileno()):
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self.tunnel is not None and self.tunnel.is_busy:
            data = self._send_on(data)
            if not data:
                return
            if self.tunnel.is_sealed:
                self.close()  # when its turn comes will not be known
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
        is_asked = self._asked is not None or self.is_in_line
        return is_asked or self._is_full or self._is_djangos

    @property
    def is_busy(self) -> bool:
        """Whether a request came, or a part of one, that has no answer yet."""
        return bool(self._early) or self._is_held

    @property
    def _is_djangos(self) -> bool:
        return self.tunnel is not None and self.tunnel.is_busy

    def look(self, now: float) -> None:
        """Let Django have what does not get whole; it knows how long to wait."""
        self._see_if_gone()
        if not self._early or self._is_held:
            return
        if self._admission is not None and not self._admission.is_let_in:
            if now - self.since > HEAD_WITHIN:
                self.close()
        elif now - self.since > PATIENCE:
            self.pass_on(b"")

    def take_turn(self) -> None:
        """Django may have the submit that waited for it."""
        self.is_in_line = False
        self.pass_on(b"")

    def django_answered(self, *, is_last: bool) -> None:
        self.front.turns.end(self)
        self._intake.give_room_back()
        self._has_answer()
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
        self._asked = None
        self._intake.end()
        if len(data) <= LARGE:
            self._intake.give_room_back()
        if self.transport is None:
            return
        if self.tunnel is None:
            self.tunnel = Tunnel(self)
            self.pause_reading()
            self.front.open_tunnel(self.tunnel)
        else:
            self.resume_reading()
        self._early = self._send_on(data)

    def _send_on(self, data: bytes) -> bytes:
        """Send it by the tunnel; where there are throttles, what belongs to another request is left."""
        assert self.tunnel is not None
        if self._admission is None:
            self.tunnel.send(data)
            return b""
        try:
            size = self._admission.own(data)
        except Problem:
            self.close()  # as Django's server does
            return b""
        if size:
            self.tunnel.send(data[:size])
        return data[size:]

    def lose_tunnel(self, *, may_go_on: bool) -> None:
        """Django's server ended the connection, perhaps only because nothing came by it."""
        self.tunnel = None
        is_held = self._asked is not None or self.is_in_line
        if self.transport is not None and not is_held and not may_go_on:
            self.transport.close()

    def waits_for(self, asked: Asked) -> bool:
        return self._asked is asked and self.transport is not None

    def answer(self, content: bytes, *, is_last: bool) -> None:
        """The raw lane's answer to what it was asked."""
        self._asked = None
        self._has_answer()
        self._intake.give_room_back()
        self.transport.write(content)
        if is_last:
            self.transport.close()
        else:
            self.go_on()

    def refuse(self, problem: Problem, by: Admission | None = None) -> None:
        """Answer in Django's place, for the last time on this connection.

        What still comes is dropped, for a while if it was not let in: a reset would overtake the answer.
        """
        request_id = (by.request_id if by else self._request_id()) or replies.new_id()
        is_told, self._is_refused, self._early = self._is_refused, True, b""
        self._intake.end()
        if self.transport is None or is_told:
            return
        self.front.refused.note({problem.code: {by.rate if by is not None else "": 1}})
        self.transport.write(
            replies.bad(problem, request_id, replies.SECURE, is_last=True)
        )
        if by is not None:
            asyncio.get_running_loop().call_later(LINGER, self.close)
        else:
            self.transport.close()

    def _request_id(self) -> str:
        """The client's own id of the request that is answered next."""
        if self._is_djangos and self.tunnel is not None:
            return self.tunnel.request_id
        if self._asked is not None:
            return self._asked.head.request_id
        end = self._early.find(b"\r\n\r\n")
        return heads.request_id(self._early[:end]) if end >= 0 else ""

    def give_up(self) -> None:
        """Close the connection, and say so to who waits for an answer that has not begun."""
        if self._is_djangos:
            if self.tunnel is not None and self.tunnel.may_be_refused:
                self.refuse(Problem("busy", LEFT, retry_after=1))
        elif self._early or self._asked is not None or self.is_in_line:
            self.refuse(Problem("busy", LEAVING, retry_after=1))
        self.close()

    def _may_go_on(self) -> bool:
        """Whether the request that comes is let in; else its head is awaited, or it is refused."""
        one = self._admission
        if one is None or one.is_let_in:
            return True
        if not one.can_tell(self._early):
            return False
        problem = one.ask(self._early)
        if problem is not None:
            self.refuse(problem, one)
        return problem is None

    def _has_answer(self) -> None:
        if self._admission is not None:
            self._admission.is_let_in = False

    def _advance(self) -> None:
        if self._admission is not None and not self._may_go_on():
            return
        try:
            found = self._intake.read(self._early)
        except Problem as problem:
            self.refuse(problem)
            return
        if isinstance(found, Prediction):
            self._early = self._early[len(found.raw) :]
            self._ask(found)
        elif found is Next.PASS_ON:
            self.pass_on(b"")
        elif found is Next.TAKE_TURN:
            self.is_in_line = True
            self.front.turns.ask(self)

    def _ask(self, found: Prediction) -> None:
        ask = asks.read(found.raw, found.at)
        if ask is None:
            self.pass_on(found.raw)
            return
        self._asked = Asked(self, found.head, found.raw)
        self._asked.begin(ask)
