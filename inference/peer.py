"""The web's side of one worker's line, inside an event loop."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from inference import frames
from inference.frames import HEAD, Answer, Kind
from inference.links import Link, Place

log = logging.getLogger(__name__)

STUCK_AFTER = 3.0  # seconds from a ping without a sign of life

Reply = Callable[[float, Sequence[Answer]], None]


class Flight:
    """A batch that was sent and is not answered yet; `is_wanted` says whether anybody waits."""

    __slots__ = ("count", "is_wanted", "lost", "reply", "version")

    def __init__(
        self,
        version: int,
        count: int,
        reply: Reply,
        lost: Callable[[], None],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.version, self.count, self.reply, self.lost = version, count, reply, lost
        self.is_wanted = is_wanted


class Peer(asyncio.Protocol):
    """A worker: what it holds, what it was asked, and whether it still speaks."""

    def __init__(self, place: Place, told: dict[str, Any], ended: Callable[[], None]):
        self.place, self._ended = place, ended
        self.versions: set[int] = set(told.get("versions", ()))
        self.flights: dict[int, Flight] = {}
        self.flying: Counter[int] = Counter()
        self.outstanding = 0  # lists of items
        self.is_stuck = False
        self._transport: Any = None
        self._number = 0
        self._pieces: list[bytes] = []  # of a frame that is not whole
        self._missing = 0  # bytes of it
        self._pinged_at: float | None = None

    @classmethod
    async def connect(cls, place: Place, ended: Callable[[Peer], None]) -> Peer:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        link = await loop.run_in_executor(None, Link, place)
        peer: Peer

        def lost() -> None:
            ended(peer)

        peer = cls(place, link.told, lost)
        link.socket.setblocking(False)
        await loop.create_connection(lambda: peer, sock=link.give())
        return peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._ended()
        self.give_up()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def ask(
        self,
        flight: Flight,
        seconds: float,
        lists: Sequence[bytes],
        watch: tuple[int, int] | None = None,
    ) -> None:
        self._number = (self._number + 1) % 2**32
        self.flights[self._number] = flight
        self.flying[flight.version] += 1
        self.outstanding += flight.count
        self._transport.write(
            frames.ask(
                self._number, flight.version, int(seconds * 1000), lists, watch=watch
            )
        )

    def look(self, now: float) -> None:
        """Ask for a sign of life, without which its batches go elsewhere; drop what nobody wants."""
        if self._transport is None:
            return
        for number, flight in self.flights.items():
            if not flight.is_wanted():
                self._transport.write(frames.frame(Kind.DROP, number))
        if self._pinged_at is None:
            self._pinged_at = now
            self._transport.write(frames.frame(Kind.PING, 0))
        elif now - self._pinged_at > STUCK_AFTER and not self.is_stuck:
            log.warning("%s gives no sign of life", self.place.name)
            self.is_stuck = True

    def give_up(self) -> None:
        """Let others have what is in flight here."""
        flights, self.flights = self.flights, {}
        self.flying.clear()
        self.outstanding = 0
        for number, flight in flights.items():
            if self._transport is not None:  # for when it wakes up
                self._transport.write(frames.frame(Kind.DROP, number))
            flight.lost()

    def data_received(self, data: bytes) -> None:
        if self._pieces:
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        at, size, needed = 0, len(data), HEAD.size
        while size - at >= HEAD.size:
            length, kind, number = HEAD.unpack_from(data, at)
            end = at + 4 + length
            if end > size:
                needed = 4 + length
                break
            try:
                self._take(kind, number, data[at + HEAD.size : end])
            except (ValueError, struct.error):
                log.exception("%s speaks nonsense", self.place.name)
                self.close()
                return
            at = end
        if at < size:
            self._pieces.append(data[at:])
            self._missing = needed - (size - at)

    def _take(self, kind: int, number: int, content: bytes) -> None:
        self._pinged_at, self.is_stuck = None, False
        if kind == Kind.PONG:
            self.versions = set(json.loads(content).get("versions", ()))
        elif kind == Kind.REPLY and (flight := self.flights.pop(number, None)):
            self.flying[flight.version] -= 1
            self.outstanding -= flight.count
            seconds, answers = frames.read_reply(content)
            self.versions.add(flight.version)
            flight.reply(seconds, answers)
