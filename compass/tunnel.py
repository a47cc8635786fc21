"""A client's way to Django: its bytes pass through unchanged, and answers come back so.

Both directions are read along, only to know when every request has its answer and the connection
is free again for the raw lane.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import httptools

from compass import heads
from registry.errors import Problem

if TYPE_CHECKING:
    from compass.visitor import Visitor

FINAL = re.compile(rb"HTTP/1\.1 [2-5]\d\d [^\r]*\r\n")
END = b"\r\n\r\n"  # of the lines before a body
LONGEST_HEAD = 64 * 1024  # bytes
CLOSE = b"\r\nConnection: close\r\n"
ENDED = "The web process ended over this request; whether it did what was asked is not known."


class Tunnel(asyncio.Protocol):
    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.transport: Any = None
        self.is_busy = False
        self._is_ended = self._is_answering = self._is_last = False
        self._early: list[bytes] = []
        self._counts = _Counts()
        self._requests = httptools.HttpRequestParser(_Requests(self._counts))
        self._counts.requests = self._requests

    def send(self, data: bytes) -> None:
        self.is_busy = True
        self._counts.feed(data)
        if self.transport is None:
            self._early.append(data)
        else:
            self.transport.write(data)
            self._see_if_free()  # where the answer came before the end of the request

    def end_requests(self) -> None:
        """The client writes no more, but still reads."""
        self._is_ended = True
        if self.transport is not None:
            self.transport.write_eof()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(b"".join(self._early))
        self._early.clear()
        if self._is_ended:
            self.transport.write_eof()
        if self.visitor.transport is None:
            self.transport.close()
        else:
            self.visitor.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.visitor.transport is None:
            return
        is_leaving = self.visitor.front.is_leaving and not self.visitor.has_more
        begins = not self._is_answering
        if is_leaving and begins and self._counts.is_one_open and FINAL.match(data):
            self._is_last = True
            data = data.replace(b"\r\n", CLOSE, 1)
        self.visitor.transport.write(data)
        self._is_answering = True
        self._counts.feed_answer(data)
        self._see_if_free()

    def _see_if_free(self) -> None:
        if self._counts.are_even:
            self.is_busy = self._is_answering = False
            self.visitor.django_answered(is_last=self._is_last)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        # Django's server ends connections that stood still; the lane's client did not.
        may_go_on = not self.is_busy and self._counts.keeps_alive
        if self.may_be_refused:
            self.visitor.refuse(Problem("busy", ENDED, retry_after=1))
        self.visitor.lose_tunnel(may_go_on=may_go_on)

    @property
    def is_sealed(self) -> bool:
        """Whether requests and answers can no longer be told from each other."""
        return self._counts.is_sealed

    @property
    def request_id(self) -> str:
        """The client's own id of the one request that has no answer, if it is sane."""
        counts = self._counts
        is_one = counts.begun == counts.answered + 1
        return heads.sane_id(counts.ids) if is_one else ""

    @property
    def is_owing(self) -> bool:
        """Whether all requests are whole, by HTTP/1.1, and the next answer has not begun."""
        is_new = self._requests.get_http_version() == "1.1"
        return is_new and not self._is_answering and self._counts.are_whole

    @property
    def may_be_refused(self) -> bool:
        """Whether one answer is owed and has not begun, unless the client ended it itself."""
        is_told = self._is_answering or self._is_ended
        return self.is_busy and not is_told and self._counts.is_one_open

    def pause_writing(self) -> None:
        self.visitor.pause_reading()

    def resume_writing(self) -> None:
        self.visitor.resume_reading()


class _Counts:
    """Requests that began and that are whole, and whole answers."""

    def __init__(self) -> None:
        self.begun = self.whole = self.answered = 0
        self.is_sealed = False  # no longer to be told; the connection stays Django's
        self.keeps_alive = False  # as the latest answer says
        self.requests: Any = None
        self.ids: list[bytes] = []  # of the request that began last
        self._head: bytes | None = None  # of the answer to a HEAD request, so far
        self._expect_answer()

    @property
    def are_even(self) -> bool:
        return not self.is_sealed and self.begun == self.whole == self.answered

    @property
    def are_whole(self) -> bool:
        return not self.is_sealed and self.begun == self.whole

    @property
    def is_one_open(self) -> bool:
        """Whether one request is whole and has no answer, and no other came behind it."""
        return not self.is_sealed and self.begun == self.whole == self.answered + 1

    def feed(self, data: bytes) -> None:
        self._feed(self.requests, data)

    def feed_answer(self, data: bytes) -> None:
        if self._head is None:
            self._feed(self.answers, data)
            return
        head = self._head + data
        while True:
            self._head = head
            end = head.find(END) + len(END)
            if end < len(END):
                self.is_sealed = self.is_sealed or len(head) > LONGEST_HEAD
                return
            head, rest = head[:end], head[end:]
            if self._ends_by(head):
                self._head = None
                self.is_sealed = self.is_sealed or bool(rest)
                return
            head = rest

    def begin(self) -> None:
        self.begun += 1
        self.ids = []
        if self._head is not None:  # its answer is looked for apart
            self.is_sealed = True

    def expect_head(self) -> None:
        """The answer to the request that now begins tells a length and has no body."""
        if self.begun == self.answered + 1:
            self._head = b""
        else:
            self.is_sealed = True

    def _ends_by(self, head: bytes) -> bool:
        """Whether that is the answer, and not one of those that go before it."""
        before = self.answered  # the parser counts one that says it has no body
        self._feed(self.answers, head)
        is_final: bool = self.answers.get_status_code() >= 200
        self.answered = before + is_final
        self.keeps_alive = self.answers.should_keep_alive()
        self._expect_answer()
        return is_final

    def _expect_answer(self) -> None:
        self.answers = httptools.HttpResponseParser(_Answers(self))

    def _feed(self, parser: Any, data: bytes) -> None:
        if self.is_sealed:
            return
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.is_sealed = True


class _Requests:
    def __init__(self, counts: _Counts) -> None:
        self.counts = counts

    def on_message_begin(self) -> None:
        self.counts.begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self.counts.ids.append(value)

    def on_headers_complete(self) -> None:
        method = self.counts.requests.get_method()
        if method == b"HEAD":
            self.counts.expect_head()
        elif method == b"CONNECT":
            self.counts.is_sealed = True

    def on_message_complete(self) -> None:
        self.counts.whole += 1


class _Answers:
    def __init__(self, counts: _Counts) -> None:
        self.counts = counts

    def on_message_complete(self) -> None:
        self.counts.answered += self.counts.answers.get_status_code() >= 200
        self.counts.keeps_alive = self.counts.answers.should_keep_alive()
