"""One client's connection: predictions take the raw lane, everything else goes to Django.

The raw lane reads plain requests with a key that may predict. Whatever is odd about one, its bytes
go to Django as they came, so what is refused is refused by the same code in the same words.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from compass import heads
from compass.api import problem_body
from compass.heads import Head
from compass.tunnel import Tunnel
from inference.frames import Status, dumps
from inference.lane import Found, Request
from registry.errors import Problem

if TYPE_CHECKING:
    from compass.front import Front

MOST_EARLY = 64 * 1024  # bytes read ahead of an answer
PATIENCE = 5.0  # seconds for a request to be whole; then Django waits for it
ADDRESS = rb'"([A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:[:@][A-Za-z0-9._-]{1,60})?)"'
S = rb"[ \t\r\n]*"
MODEL, INPUTS = rb'"model"' + S + b":" + S + ADDRESS, rb'"inputs"' + S + b":" + S
MODEL_FIRST = re.compile(
    S + rb"\{" + S + MODEL + S + b"," + S + INPUTS + rb"(\[.*\])" + S + rb"\}" + S,
    re.DOTALL,
)
MODEL_LAST = re.compile(
    S + rb"\{" + S + INPUTS + rb"(\[.*\])" + S + b"," + S + MODEL + S + rb"\}" + S,
    re.DOTALL,
)
SECURE = (
    b"X-Frame-Options: DENY\r\nX-Content-Type-Options: nosniff\r\n"
    b"Referrer-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n"
)
COMMON = b"Allow: POST, OPTIONS\r\n" + SECURE
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + COMMON
BAD = b"HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n"
REASONS = {
    500: b"Internal Server Error",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


class Visitor(asyncio.Protocol):
    def __init__(self, front: Front) -> None:
        self.front = front
        self.transport: Any = None
        self.tunnel: Tunnel | None = None
        self.since = 0.0  # when what is in `early` began to come
        self._early = b""
        self._asked: _Asked | None = None
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.front.visitors.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.front.visitors.discard(self)
        if self._asked is not None:
            self._asked.leave()
            self._asked = None
        if self.tunnel is not None:
            self.tunnel.close()

    def eof_received(self) -> bool:
        if self.tunnel is not None and self.tunnel.is_busy:
            self.tunnel.end_requests()
            return True
        return False

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None and self.tunnel.is_busy:
            self.tunnel.send(data)
            return
        if not self._early:
            self.since = time.monotonic()
        self._early = self._early + data if self._early else data
        if self._asked is None:
            self._advance()
        elif len(self._early) > MOST_EARLY:
            self.pause_reading()

    def pause_writing(self) -> None:
        if self.tunnel is not None and self.tunnel.transport is not None:
            self.tunnel.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.tunnel is not None and self.tunnel.transport is not None:
            self.tunnel.transport.resume_reading()

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
        if self._early and self._asked is None and now - self.since > PATIENCE:
            self.pass_on(b"")

    def go_on(self) -> None:
        """The connection is free for the next request."""
        self.resume_reading()
        if self._early:
            self.since = time.monotonic()
            self._advance()

    def pass_on(self, data: bytes) -> None:
        """Send it to Django, with what came after it."""
        data, self._early = data + self._early, b""
        self._asked = None
        if self.transport is None:
            return
        if self.tunnel is None:
            self.tunnel = Tunnel(self)
            self.pause_reading()
            self.front.open_tunnel(self.tunnel)
        else:
            self.resume_reading()
        self.tunnel.send(data)

    def lose_tunnel(self) -> None:
        """Django's server ended the connection, or cannot be reached."""
        self.tunnel = None
        if self.transport is not None and self._asked is None:
            self.transport.close()

    def refuse(self, problem: Problem) -> None:
        """Answer in Django's place, while it is away."""
        if self.transport is not None:
            self.transport.write(_bad(problem, "", SECURE, is_last=True))
            self.transport.close()

    def _advance(self) -> None:
        data = self._early
        if not data.startswith(heads.LINE):
            if not heads.LINE.startswith(data):
                self.pass_on(b"")
            return
        end = data.find(b"\r\n\r\n", len(heads.LINE) - 2)
        if end < 0:
            if len(data) > heads.MOST:
                self.pass_on(b"")
            return
        head = heads.read(data[:end])
        if head is None:
            self.pass_on(b"")
            return
        size = end + 4 + head.length
        if len(data) >= size:
            self._early = data[size:]
            self._ask(head, data[:size], end + 4)

    def _ask(self, head: Head, raw: bytes, at: int) -> None:
        match = MODEL_FIRST.fullmatch(raw, at)
        if match:
            address, items = match.groups()
        elif match := MODEL_LAST.fullmatch(raw, at):
            items, address = match.groups()
        else:
            self.pass_on(raw)
            return
        asked = _Asked(self, head, raw)
        self._asked = asked
        began = asked.began
        request = Request(
            address.decode(), items, began + self.front.timeout, asked.end
        )
        asked.request = request
        may = self.front.database.may_predict(head.digest)
        if may is None:
            self.front.spawn(self._look_at_key(asked))
        elif may:
            self.front.lane.ask(request)
        else:
            self.pass_on(raw)

    async def _look_at_key(self, asked: _Asked) -> None:
        try:
            may = await self.front.database.look_at_key(asked.head.digest)
        except Exception:
            may = False  # Django says what is the matter
        if asked.visitor is None or self._asked is not asked:
            return
        if may and asked.request is not None:
            self.front.lane.ask(asked.request)
        else:
            self.pass_on(asked.raw)

    def answered(
        self, asked: _Asked, status: int, content: bytes, found: Found | None
    ) -> None:
        if self._asked is not asked or self.transport is None:
            return
        if status == Status.ODD:
            self.pass_on(asked.raw)
            return
        self._asked = None
        head = asked.head
        request_id = head.request_id or os.urandom(16).hex()
        if status == Status.OUTPUTS and found is not None:
            took = round(time.monotonic() - asked.began, 6)
            body = b'{"model":"%b","version":%d,"outputs":%b,"took":%b}' % (
                found.model.encode(), found.number, content, repr(took).encode(),
            )  # fmt: skip
            last = b"" if head.keeps_alive else b"Connection: close\r\n"
            self.transport.write(
                b"%bX-Request-ID: %b\r\n%bContent-Length: %d\r\n\r\n%b"
                % (GOOD, request_id.encode(), last, len(body), body)
            )
        else:
            problem = Problem(**json.loads(content))
            self.transport.write(
                _bad(problem, request_id, COMMON, is_last=not head.keeps_alive)
            )
        if not head.keeps_alive:
            self.transport.close()
        else:
            self.go_on()


class _Asked:
    """A prediction that one visitor waits for."""

    __slots__ = ("began", "head", "raw", "request", "visitor")

    def __init__(self, visitor: Visitor, head: Head, raw: bytes) -> None:
        self.visitor: Visitor | None = visitor
        self.head, self.raw, self.began = head, raw, time.monotonic()
        self.request: Request | None = None

    def end(self, status: int, content: bytes, found: Found | None) -> None:
        if self.visitor is not None:
            self.visitor.answered(self, status, content, found)

    def leave(self) -> None:
        """Nobody waits any more; what is still in line is not computed."""
        self.visitor = None
        if self.request is not None:
            self.request.is_gone = True


def _bad(problem: Problem, request_id: str, common: bytes, *, is_last: bool) -> bytes:
    body = dumps(problem_body(SimpleNamespace(request_id=request_id), problem))
    first = BAD % (problem.status, REASONS.get(problem.status, b"Error"))
    parts = [first, common, b"X-Request-ID: %b\r\n" % request_id.encode()]
    if problem.retry_after is not None:
        seconds = max(1, math.ceil(problem.retry_after))
        parts.append(b"Retry-After: %d\r\n" % seconds)
    if is_last:
        parts.append(b"Connection: close\r\n")
    parts.append(b"Content-Length: %d\r\n\r\n" % len(body))
    return b"".join([*parts, body])
