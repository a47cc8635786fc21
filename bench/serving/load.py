"""A load generator: clients on kept connections, each with one request out, every answer read."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvloop

TOLERANCE = 1e-5
PATIENCE = 30.0  # seconds for the answers that are still out at the end
RECONNECTS = 100  # of all clients together
SHOWN = 200  # characters of an answer that was not right

Read = Callable[[Any], float]


def first_output(answer: Any) -> float:
    """The number in an answer of the shape that Compass gives."""
    return answer["outputs"][0]["y"]  # type: ignore[no-any-return]


@dataclass
class Load:
    """What to ask: one body an item, and what each must be answered (None: anything).

    With `bad`, the last client asks nothing but that body, which must not be answered by a number.
    """

    port: int
    path: str
    headers: dict[str, str]
    bodies: list[bytes]
    wanted: list[float] | None
    seconds: float
    read: Read = first_output
    bad: bytes | None = None
    times: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    refused: int = 0  # bad requests that were answered as such

    def run(self, clients: int) -> float:
        """Ask with so many clients at once; the seconds it took. Times are in seconds."""
        began = time.perf_counter()
        uvloop.run(self._run(clients))
        return time.perf_counter() - began

    @property
    def count(self) -> int:
        """Requests that were made."""
        return len(self.times) + self.faults.total() + self.refused

    def fault(self, kind: str, text: str) -> None:
        """`wrong`: another number than bare torch's; `error`: no number at all."""
        self.faults[kind] += 1
        self.examples.setdefault(kind, text[:SHOWN])

    async def _run(self, clients: int) -> None:
        self.end = time.perf_counter() + self.seconds
        self.requests = [self._request(body) for body in self.bodies]
        self.bad_request = self._request(self.bad or b"")
        self.reconnects = RECONNECTS
        loop = asyncio.get_running_loop()
        some = [
            _Client(self, number, loop.create_future()) for number in range(clients)
        ]
        some[-1].is_bad = self.bad is not None
        await asyncio.gather(*(one.connect() for one in some))
        _, late = await asyncio.wait(
            [one.done for one in some], timeout=self.seconds + PATIENCE
        )
        for _ in late:
            self.fault("error", f"no answer within {PATIENCE:g} s")

    def _request(self, body: bytes) -> bytes:
        fields = "".join(f"{k}: {v}\r\n" for k, v in self.headers.items())
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\n{fields}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def check(self, item: int, status: bytes, body: bytes) -> bool:
        """Whether the item's answer is bare torch's; what is not is counted."""
        if status != b"200":
            self.fault("error", f"{status!r} {body!r}")
            return False
        if self.wanted is None:
            return True
        found = self._number(body)
        if found is None:
            self.fault("error", f"no number in {body!r}")
            return False
        if abs(found - self.wanted[item]) <= TOLERANCE * max(1, abs(found)):
            return True  # not so for NaN
        self.fault("wrong", f"{found} instead of {self.wanted[item]}")
        return False

    def check_bad(self, status: bytes, body: bytes) -> None:
        if status == b"200" and self._number(body) is not None:
            self.fault("wrong", f"a bad item was answered: {body!r}")
        else:
            self.refused += 1

    def _number(self, body: bytes) -> float | None:
        try:
            return float(self.read(orjson.loads(body)))
        except (ValueError, TypeError, LookupError):
            return None


class _Client(asyncio.Protocol):
    def __init__(self, load: Load, number: int, done: Any) -> None:
        self.load, self.item, self.done = load, number, done
        self.buffer, self.began, self.is_bad = b"", 0.0, False

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, "127.0.0.1", self.load.port)
        except OSError as error:
            self._lost(f"cannot connect: {error}")

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer, self.is_closing = transport, b"", False
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if self.is_closing:
            self.again = asyncio.ensure_future(self.connect())
        else:
            self._lost(f"connection lost: {error}")

    def _lost(self, text: str) -> None:
        if self.is_bad:
            self.load.refused += 1
        else:
            self.load.fault("error", text)
        self.load.reconnects -= 1
        if self.load.reconnects < 0 or time.perf_counter() >= self.load.end:
            self._finish()
        else:
            self.again = asyncio.ensure_future(self.connect())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        found = answer_of(self.buffer)
        if found is None:
            return
        took = time.perf_counter() - self.began
        status, body = found
        if status != b"200":
            self.is_closing = b"\r\nconnection: close" in self.buffer.lower()
        self.buffer = b""
        if self.is_bad:
            self.load.check_bad(status, body)
        elif self.load.check(self.item, status, body):
            self.load.times.append(took)
        if self.is_closing:
            self.transport.close()
        else:
            self._ask()

    def _ask(self) -> None:
        if time.perf_counter() >= self.load.end:
            self._finish()
            self.transport.close()
            return
        self.item = (self.item + 7) % len(self.load.requests)
        requests = self.load.requests
        self.began = time.perf_counter()
        self.transport.write(
            self.load.bad_request if self.is_bad else requests[self.item]
        )

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


def answer_of(data: bytes) -> tuple[bytes, bytes] | None:
    """Status and body, once the whole answer is there."""
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None
    fields, status = head.lower(), head[9:12]
    at = fields.find(b"\r\ncontent-length:")
    if at >= 0:
        length = int(fields[at + 17 :].split(b"\r\n", 1)[0])
        return (status, body) if len(body) >= length else None
    if b"\r\ntransfer-encoding: chunked" not in fields:
        return status, body
    whole = b""
    while True:
        size, found, rest = body.partition(b"\r\n")
        if not found or len(rest) < (length := int(size.split(b";")[0], 16)) + 2:
            return None
        if not length:
            return status, whole
        whole, body = whole + rest[:length], rest[length + 2 :]
