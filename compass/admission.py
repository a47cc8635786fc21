"""Whether the request that comes by one connection is one too many of its key's."""

from __future__ import annotations

import re
import time

from compass import heads
from compass.throttles import Throttles
from registry.errors import Problem

LENGTH = re.compile(
    rb"\ncontent-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*(?=\r?\n)", re.IGNORECASE
)
ODD = re.compile(rb"\n(?:transfer-encoding|upgrade)[ \t]*:", re.IGNORECASE)


class Admission:
    """`is_let_in` from when a request was counted until it has its answer."""

    def __init__(self, throttles: Throttles, address: str) -> None:
        self._throttles, self._address = throttles, address
        self._head = b""
        self.is_let_in = False

    @property
    def request_id(self) -> str:
        return heads.request_id(self._head)

    def can_tell(self, data: bytes) -> bool:
        """Whether enough has come to know whose request it is."""
        return b"\r\n\r\n" in data.lstrip(b"\r\n") or len(data) > heads.MOST

    def ask(self, data: bytes) -> Problem | None:
        """Count the request that begins there; the problem if it is one too many."""
        self._head = data.lstrip(b"\r\n").partition(b"\r\n\r\n")[0][: heads.MOST]
        self.is_let_in = True
        refusal = self._throttles.ask(self._head, self._address, time.monotonic())
        if refusal is None:
            return None
        text = f"More than {refusal.rule} by one key."
        return Problem("throttled", text, retry_after=refusal.wait)

    def size(self, data: bytes) -> int:
        """Bytes of the request that begins there; all where its end cannot be told."""
        end = data.find(b"\r\n\r\n", len(data) - len(data.lstrip(b"\r\n")))
        if end < 0 or ODD.search(data, 0, end + 2):
            return len(data)
        lengths = LENGTH.findall(data, 0, end + 2)
        return end + 4 + (int(lengths[0]) if len(lengths) == 1 else 0)

    def charge(self, number: int) -> None:
        """Count requests that came behind it in one piece and go with it."""
        self._throttles.charge(self._head, self._address, number, time.monotonic())
