"""Bodies of requests on their way in: few at a time, and none that stands still for long.

The server's read cannot be broken off, so it ends by the end of its connection, which
`compass.idle` finds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.conf import settings

from compass import idle
from registry.errors import Problem

CHUNK = 32 * 1024  # bytes
BRIEF = 0.25  # seconds that a request waits for its turn to read
SMALL = 64 * 1024  # bytes that a client has written whatever comes back
LINGER_BYTES = 64 * 1024**2
LINGER_SECONDS = 5.0
UPLOADS = ("/api/v1/uploads", "/api/v1/data/upload")
MODELS = "/api/v1/models"

# Event streams may take half of the threads; this leaves one at least.
_turns = threading.BoundedSemaphore(max(1, settings.ENVIRONMENT.web_threads // 2 - 1))
_lingering = threading.BoundedSemaphore(2)

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class Patient:
    """A WSGI application whose bodies do not stand still, with a length or in chunks.

    JSON without a length is read up to the limit of a body.
    """

    def __init__(self, application: Application) -> None:
        self.application = application

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        with idle.call(environ.get("REMOTE_ADDR", "")) as call:
            length = environ.get("CONTENT_LENGTH") or ""
            is_chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
            if length in ("", "0") and not is_chunked:
                return self.application(environ, start_response)
            most = None
            if not length and not _is_file(environ.get("PATH_INFO", "")):
                most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
                environ["CONTENT_LENGTH"] = str(most)  # without one, nothing is read
            body = environ["wsgi.input"] = Body(environ["wsgi.input"], call, most=most)
            answer = self.application(environ, start_response)
            is_long = is_chunked or not length.isdecimal() or int(length) > SMALL
            return _Answer(answer, body) if is_long else answer


class Body:
    """One body; `most` in bytes."""

    def __init__(self, source: Any, call: idle.Call, *, most: int | None) -> None:
        self.source, self.call, self.most = source, call, most
        self.count, self.is_over = 0, False

    def read(self, size: int = -1) -> bytes:
        """That many bytes, less at the end, or all.

        Raises Problem `timeout_body`, `busy` or `too_large`.
        """
        if not _turns.acquire(timeout=BRIEF):
            text = "Too many bodies come in slowly; send this one again."
            raise Problem("busy", text, retry_after=1)
        try:
            return self._read(size)
        finally:
            _turns.release()

    def readline(self, size: int = -1) -> bytes:
        """A line without a look ahead, or that many bytes of it."""
        line = b""
        while len(line) != size and not line.endswith(b"\n"):
            if not (byte := self.read(1)):
                break
            line += byte
        return line

    def linger(self) -> None:
        """Read on after the answer.

        A connection that is closed while its client still writes is reset, and some clients
        then never read the answer.
        """
        if self.is_over or not _lingering.acquire(blocking=False):
            return
        try:
            left, end = LINGER_BYTES, time.monotonic() + LINGER_SECONDS
            while left > 0 and time.monotonic() < end and not self.is_over:
                with self.call.reading():
                    piece = self.source.read(CHUNK)
                self.is_over, left = not piece, left - len(piece)
        except OSError:
            return
        finally:
            _lingering.release()

    def _read(self, size: int) -> bytes:
        parts, wanted = [], float("inf") if size < 0 else size
        while wanted > 0:
            if not (piece := self._piece(int(min(wanted, CHUNK)))):
                break
            parts.append(piece)
            wanted -= len(piece)
        if self.count == self.most:
            self._piece(1)  # is there more than may be?
        return b"".join(parts)

    def _piece(self, size: int) -> bytes:
        with self.call.reading():
            piece = bytes(self.source.read(size))
        if self.call.is_cut:
            text = "The body stood still for too long and was given up."
            raise Problem("timeout_body", text)
        self.is_over = not piece
        self.count += len(piece)
        if self.most is not None and self.count > self.most:
            text = f"A body may have {self.most:,} bytes at most."
            raise Problem("too_large", text)
        return piece


def _is_file(path: str) -> bool:
    return path.startswith(UPLOADS) or path == MODELS


class _Answer:
    def __init__(self, answer: Any, body: Body) -> None:
        self.answer, self.body = answer, body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.answer)

    def close(self) -> None:
        try:
            if hasattr(self.answer, "close"):
                self.answer.close()
        finally:
            self.body.linger()
