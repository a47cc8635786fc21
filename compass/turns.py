"""Submits reach Django a few at a time, for more threads at once only contend for its interpreter."""

from __future__ import annotations

import re
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compass.visitor import Visitor

LINE = re.compile(
    rb"POST /(?:api/v1/(?:training/tasks|scripts|jobs/submit)|jobs/submit) HTTP/1\.1\r\n"
)
LENGTH = re.compile(
    rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*(?=\r\n)", re.IGNORECASE
)
ODD = re.compile(rb"\r\n(?:expect|transfer-encoding|upgrade)[ \t]*:", re.IGNORECASE)
AT_ONCE = 2  # one that computes, and one that waits for the database
LONGEST = 1.0  # seconds of a turn; then the next one goes too
MOST = 64 * 1024  # bytes of head and body


def size(data: bytes) -> int | None:
    """How many bytes the submit that begins there has; None if it is none, or an odd one.

    0 while its head is not whole.
    """
    if not LINE.match(data):
        return None
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0 if len(data) < MOST else None
    head = data[: end + 2]
    lengths = LENGTH.findall(head)
    if len(lengths) != 1 or ODD.search(head):
        return None
    whole = end + 4 + int(lengths[0])
    return whole if whole <= MOST else None


class Turns:
    """Who is let in, and since when by the monotonic clock; and the line of those who wait."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.at_once = at_once
        self._inside: dict[Visitor, float] = {}
        self._line: deque[Visitor] = deque()

    def ask(self, visitor: Visitor) -> None:
        self._line.append(visitor)
        self._let_in()

    def end(self, visitor: Visitor) -> None:
        if self._inside.pop(visitor, None) is not None:
            self._let_in()

    def look(self, now: float) -> None:
        """One that takes long does not hold up the others."""
        for visitor, since in list(self._inside.items()):
            if now - since > LONGEST:
                self.end(visitor)

    def _let_in(self) -> None:
        while self._line and len(self._inside) < self.at_once:
            visitor = self._line.popleft()
            if visitor.transport is not None and visitor.is_in_line:
                self._inside[visitor] = time.monotonic()
                visitor.take_turn()
