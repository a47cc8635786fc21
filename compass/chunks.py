"""JSON bodies in chunks: held until they are whole, for Django's server ends a broken one silently.

To Django a body whose chunks are no chunks looks like one that ended there.
"""

from __future__ import annotations

import re

from registry.errors import Problem

MOST = 64 * 1024  # bytes of head and body; what is longer goes to Django as it comes
CHUNKED = re.compile(
    rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*(?=\r\n)", re.IGNORECASE
)
JSON = re.compile(rb"\r\ncontent-type:[ \t]*application/json\b", re.IGNORECASE)
ODD = re.compile(rb"\r\n(?:expect|content-length|upgrade)[ \t]*:", re.IGNORECASE)
SIZE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\r\n]{0,256})?\r\n")
BEGUN = re.compile(rb"(?:[0-9a-fA-F]{1,16}[ \t]*(?:;[^\r\n]{0,256})?\r?)?")
MALFORMED = "The chunks of the body are not what Transfer-Encoding: chunked says."


class Chunked:
    """The body of one request, looked at as it comes."""

    def __init__(self, at: int) -> None:
        self._at = at

    @classmethod
    def of(cls, data: bytes) -> Chunked | None:
        """That of the request that begins there; None if it has none, or the head is not whole."""
        end = data.find(b"\r\n\r\n")
        head = data[: end + 2]
        if end < 0 or len(CHUNKED.findall(head)) != 1:
            return None
        return cls(end + 4) if JSON.search(head) and not ODD.search(head) else None

    def is_over(self, data: bytes) -> bool:
        """Whether it is whole, or too long to be held. Raises Problem `malformed`."""
        while len(data) <= MOST:
            found = SIZE.match(data, self._at)
            if found is None:
                if BEGUN.fullmatch(data, self._at) is None:
                    raise Problem("malformed", MALFORMED)
                return False
            size = int(found[1], 16)
            if size == 0:
                return data.find(b"\r\n\r\n", found.end() - 2) >= 0
            end = found.end() + size
            if not b"\r\n".startswith(data[end : end + 2]):
                raise Problem("malformed", MALFORMED)
            if len(data) < end + 2:
                return False
            self._at = end + 2
        return True
