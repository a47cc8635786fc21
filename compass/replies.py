"""The raw lane's answers as bytes, with the headers that Django's have."""

from __future__ import annotations

from random import getrandbits
from types import SimpleNamespace

from compass.api import problem_body
from inference.frames import dumps
from registry.errors import Problem

SECURE = (
    b"X-Frame-Options: DENY\r\nX-Content-Type-Options: nosniff\r\n"
    b"Referrer-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n"
)
COMMON = b"Allow: POST, OPTIONS\r\n" + SECURE
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + COMMON
BAD = b"HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n"
REASONS = {
    400: b"Bad Request",
    404: b"Not Found",
    413: b"Payload Too Large",
    422: b"Unprocessable Entity",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    507: b"Insufficient Storage",
}
LAST = b"Connection: close\r\n"


def new_id() -> str:
    return f"{getrandbits(128):032x}"


def good(
    head: bytes, outputs: bytes, tail: bytes, request_id: str, is_last: bool
) -> bytes:
    """The answer whose body are those three."""
    size = len(head) + len(outputs) + len(tail)
    return b"%bX-Request-ID: %b\r\n%bContent-Length: %d\r\n\r\n%b%b%b" % (
        GOOD, request_id.encode(), LAST if is_last else b"", size, head, outputs, tail,
    )  # fmt: skip


def bad(
    problem: Problem, request_id: str, common: bytes = COMMON, *, is_last: bool
) -> bytes:
    body = dumps(problem_body(SimpleNamespace(request_id=request_id), problem))
    first = BAD % (problem.status, REASONS.get(problem.status, b"Error"))
    parts = [first, common, b"X-Request-ID: %b\r\n" % request_id.encode()]
    if (seconds := problem.wait) is not None:
        parts.append(b"Retry-After: %d\r\n" % seconds)
    if is_last:
        parts.append(LAST)
    parts.append(b"Content-Length: %d\r\n\r\n" % len(body))
    return b"".join([*parts, body])
