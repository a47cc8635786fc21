"""What the bytes that came by a connection ask next, and the room that a large request holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from compass import heads, turns
from compass.chunks import Chunked
from compass.heads import Head
from compass.room import LARGE, Room


class Next(Enum):
    WAIT = 1  # more has to come
    PASS_ON = 2  # it is Django's
    TAKE_TURN = 3  # a submit


@dataclass(slots=True)  # not frozen, for one is made a request
class Prediction:
    """One of the raw lane, if its body is: `raw` is all of it, from `at` on the body."""

    head: Head
    raw: bytes
    at: int


class Intake:
    def __init__(self, room: Room) -> None:
        self._room, self._held = room, 0  # bytes
        self._chunked: Chunked | None = None  # a body that is not whole

    @property
    def is_amid_chunks(self) -> bool:
        return self._chunked is not None

    def end(self) -> None:
        """What came was taken."""
        self._chunked = None

    def give_room_back(self) -> None:
        if self._held:
            self._room.give_back(self._held)
            self._held = 0

    def read(self, data: bytes) -> Next | Prediction:
        """Raises Problem `malformed`."""
        if not data.startswith(heads.LINE):
            return Next.WAIT if heads.LINE.startswith(data) else self._other(data)
        end = data.find(b"\r\n\r\n", len(heads.LINE) - 2)
        if end < 0:
            return Next.PASS_ON if len(data) > heads.MOST else Next.WAIT
        head = heads.read(data[:end])
        if head is None:
            return self._other(data)
        size = end + 4 + head.length
        if size > LARGE and not self._held:
            self._held = self._room.take(size)
            if not self._held:
                return Next.PASS_ON  # Django reads few at a time, and from the socket
        if len(data) < size:
            return Next.WAIT
        return Prediction(head, data[:size], end + 4)

    def _other(self, data: bytes) -> Next:
        size = turns.size(data)
        if size is None:
            self._chunked = self._chunked or Chunked.of(data)
            is_over = self._chunked is None or self._chunked.is_over(data)
            return Next.PASS_ON if is_over else Next.WAIT
        return Next.TAKE_TURN if 0 < size <= len(data) else Next.WAIT
