"""A load generator: clients on kept connections, each with one request out, every answer read."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

TOLERANCE = 1e-5


@dataclass
class Load:
    """What to ask: one body an item, and what each must be answered (None: anything)."""

    port: int
    path: str
    headers: dict[str, str]
    bodies: list[bytes]
    wanted: list[float] | None
    seconds: float
    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def run(self, clients: int) -> None:
        """Ask with so many clients at once. Times are in seconds."""
        uvloop.run(self._run(clients))

    async def _run(self, clients: int) -> None:
        loop, self.end = asyncio.get_running_loop(), time.monotonic() + self.seconds
        fields = "".join(f"{k}: {v}\r\n" for k, v in self.headers.items())
        self.requests = [
            (
                f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Content-Type: application/json\r\n{fields}"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode() + body
            for body in self.bodies
        ]  # fmt: skip
        done = [loop.create_future() for _ in range(clients)]
        for n, future in enumerate(done):
            make = lambda n=n, future=future: _Client(self, n, future)  # noqa: E731
            await loop.create_connection(make, "127.0.0.1", self.port)
        await asyncio.wait_for(asyncio.gather(*done), self.seconds + 60)

    def check(self, item: int, status: bytes, body: bytes) -> None:
        if status != b"200":
            self.errors.append(f"{status!r} {body[:200]!r}")
        elif self.wanted is not None:
            found: Any = json.loads(body)["outputs"][0]["y"]
            if abs(found - self.wanted[item]) > TOLERANCE * max(1, abs(found)):
                self.errors.append(f"{found} instead of {self.wanted[item]}")


class _Client(asyncio.Protocol):
    def __init__(self, load: Load, number: int, done: Any) -> None:
        self.load, self.item, self.done = load, number, done
        self.buffer, self.began = b"", 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.load.errors.append(f"left: {error}")
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self.load.times.append(time.perf_counter() - self.began)
        self.load.check(self.item, head[9:12], body)
        self.buffer = b""
        self._ask()

    def _ask(self) -> None:
        if time.monotonic() >= self.load.end:
            if not self.done.done():
                self.done.set_result(None)
            self.transport.close()
            return
        self.item = (self.item + 7) % len(self.load.requests)
        self.began = time.perf_counter()
        self.transport.write(self.load.requests[self.item])
