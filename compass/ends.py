"""Where a request ends, of heads that leave no doubt of it; where throttles count, others are refused.

Django's server takes more: lines that end by a line feed alone, two lengths, codings beside `chunked`.
What stands behind such a request could pass as a part of it, and be counted by nobody.
"""

from __future__ import annotations

import re

from compass import chunks
from registry.errors import Problem

MOST = 64 * 1024  # bytes of a head
MOST_LINE = 512  # bytes of one between chunks
NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
HEAD = re.compile(
    rb"%b [!-~\x80-\xff]++ HTTP/1\.[01](?:\r\n%b:[^\r\n\0]*+)*+" % (NAME, NAME)
)
LINE_FEED = re.compile(rb"(?<!\r)\n")
# What stands there once at most; to Django `_` in a name is `-`.
ONCE = re.compile(
    rb"\n(content-length|transfer-encoding|authorization|x[-_]api[-_]key):[ \t]*+([^\r]*+)",
    re.IGNORECASE,
)
UNCLEAR = "Its head does not say plainly where this request ends and whose it is."


class End:
    """Of one request, found as its bytes come."""

    def __init__(self, size: int, *, is_chunked: bool) -> None:
        self._left = size  # bytes until its end, or until the next line between chunks
        self._is_chunked = is_chunked
        self._is_last = False  # no chunks come any more
        self._line = b""

    @classmethod
    def of(cls, head: bytes, before: int) -> End:
        """By the head without its empty line, and the bytes before it. Raises Problem `malformed`."""
        found = [
            (one[0].lower().replace(b"_", b"-"), one[1]) for one in ONCE.findall(head)
        ]
        fields = dict(found)
        length = fields.get(b"content-length", b"0").rstrip(b" \t")
        coding = fields.get(b"transfer-encoding", b"").rstrip(b" \t").lower()
        is_clear = len(fields) == len(found) and length.isdigit() and len(length) < 19
        if b"transfer-encoding" in fields:
            is_clear = (
                is_clear and coding == b"chunked" and b"content-length" not in fields
            )
        if not is_clear or HEAD.fullmatch(head) is None:
            raise Problem("malformed", UNCLEAR)
        return cls(before + len(head) + 4 + int(length), is_chunked=coding != b"")

    def take(self, data: bytes) -> int:
        """How many of the bytes that come are the request's own. Raises Problem `malformed`."""
        at = 0
        while True:
            own = min(self._left, len(data) - at)
            self._left, at = self._left - own, at + own
            if self._left or not self._is_chunked:
                return at
            end = data.find(b"\n", at) + 1
            self._line += data[at : end or len(data)]
            at = end or len(data)
            if len(self._line) > MOST_LINE:
                raise Problem("malformed", chunks.MALFORMED)
            if not end:
                return at
            self._read_line()

    def _read_line(self) -> None:
        line, self._line = self._line, b""
        found = None if self._is_last else chunks.SIZE.fullmatch(line)
        if found is None and not (self._is_last and line.endswith(b"\r\n")):
            raise Problem("malformed", chunks.MALFORMED)
        if found is None:
            self._is_chunked = line != b"\r\n"
        elif size := int(found[1], 16):
            self._left = size + len(b"\r\n")
        else:
            self._is_last = True
