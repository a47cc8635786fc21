"""Whether the request that comes by one connection is one too many of its key's or its address's."""

from __future__ import annotations

import ipaddress
import time

from compass import ends, heads
from compass.ends import End
from compass.throttles import Throttles
from registry.errors import Problem

EMPTY = b"\r\n"  # lines of which there may be some before a request
HOUSEHOLD = 64  # leading bits of an IPv6 address; the others its owner chooses


class Admission:
    """`is_let_in` from when a request was counted until it has its answer."""

    def __init__(self, throttles: Throttles, address: str) -> None:
        self._throttles, self._address = throttles, household(address)
        self._head, self._end = b"", End(0, is_chunked=False)
        self.is_let_in = False
        self.rate = ""  # beyond which it was refused

    @property
    def request_id(self) -> str:
        return heads.request_id(self._head)

    def can_tell(self, data: bytes) -> bool:
        """Whether enough has come to know whose request it is."""
        begun = data.lstrip(EMPTY)
        is_over = b"\r\n\r\n" in begun or len(data) > ends.MOST
        return is_over or ends.LINE_FEED.search(begun) is not None

    def ask(self, data: bytes) -> Problem | None:
        """Count the request that begins there; the problem if it is one too many or unclear."""
        begin = len(data) - len(data.lstrip(EMPTY))
        end = data.find(b"\r\n\r\n", begin, begin + ends.MOST)
        self._head = data[begin : end if end >= 0 else begin + ends.MOST]
        if end < 0:
            return Problem("malformed", ends.UNCLEAR)
        try:
            self._end = End.of(self._head, begin)
        except Problem as problem:
            return problem
        refusal = self._throttles.ask(self._head, self._address, time.monotonic())
        self.is_let_in = refusal is None
        if refusal is None:
            return None
        self.rate = refusal.rule.name
        text = f"More than {refusal.rule} by one {refusal.by}."
        return Problem("throttled", text, retry_after=refusal.wait)

    def own(self, data: bytes) -> int:
        """How many of the bytes that come next are that request's. Raises Problem `malformed`."""
        return self._end.take(data)


def household(address: str) -> str:
    """What an address is counted as: of IPv6 the network that one customer is given."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address  # of no network
    if found.version == 4:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), HOUSEHOLD), strict=False))
