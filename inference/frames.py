"""What goes over a line: frames with a length, a kind and an id; items travel as bytes.

A frame is its length (of what follows, 4 bytes), its kind (1), its id (4) and its content, all
numbers big-endian. An answer carries the id of what it answers, and may overtake others.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import orjson

HEAD = struct.Struct("!IBI")
ASK = struct.Struct("!QIH")  # version, milliseconds until nobody waits, how many lists
REPLY = struct.Struct("!dH")  # seconds of work, how many answers
WATCH = struct.Struct("!QQB")  # second, shadow or 0, kind of the rest
LENGTH = struct.Struct("!I")
ANSWER = struct.Struct("!BI")
LONGEST = 256 * 1024**2  # bytes of a frame
MOST_ANSWERS = 128 * 1024**2  # bytes of the answers of one frame
CHALLENGE = 32  # bytes


class Kind(IntEnum):
    ASK = 1
    REPLY = 2
    PING = 3
    PONG = 4  # JSON: {name, versions: ids of the models that are loaded}
    CHECKED = 5  # as ASK; somebody has looked at the items already
    WATCHED = 6  # what it is counted under, and the kind and content of another one
    TELL = 7  # JSON: {name: preload, evict, forget or status, ...}
    TOLD = 8  # JSON, the answer to that
    DROP = 9  # nobody waits any more for the answer to that id; it comes nevertheless


KINDS = {int(one): one for one in Kind}


class Status(IntEnum):
    """What the bytes of one answer are."""

    OUTPUTS = 0  # a JSON list, one output or error an item
    PROBLEM = 1  # JSON: {code, detail, retry_after}
    ODD = 2  # the items are not what this lane reads; nothing was computed


Answer = tuple[int, bytes]


class Broken(OSError):
    """The other side left, or does not speak this language."""


def frame(kind: Kind, number: int, content: bytes = b"") -> bytes:
    return HEAD.pack(len(content) + 5, kind, number) + content


def ask(
    number: int,
    version: int,
    milliseconds: int,
    lists: Sequence[bytes],
    kind: Kind = Kind.ASK,
    watch: tuple[int, int] | None = None,
) -> bytes:
    """A batch; `watch` is what a worker counts it under, and the version to compare with or 0."""
    parts = [ASK.pack(version, max(0, milliseconds), len(lists))]
    for one in lists:
        parts.append(LENGTH.pack(len(one)))
        parts.append(one)
    if watch is not None:
        parts.insert(0, WATCH.pack(*watch, kind))
        kind = Kind.WATCHED
    return frame(kind, number, b"".join(parts))


def read_watched(content: bytes) -> tuple[tuple[int, int], Kind, bytes]:
    """What it is counted under, and the kind and content of what is asked. Raises struct.error."""
    second, shadow, kind = WATCH.unpack_from(content)
    return (second, shadow), Kind(kind), content[WATCH.size :]


def read_ask(content: bytes) -> tuple[int, int, list[bytes]]:
    """Version, milliseconds and the lists of items. Raises struct.error."""
    version, milliseconds, count = ASK.unpack_from(content)
    at, lists = ASK.size, []
    for _ in range(count):
        (length,) = LENGTH.unpack_from(content, at)
        at += LENGTH.size
        lists.append(content[at : at + length])
        at += length
    return version, milliseconds, lists


def reply(number: int, seconds: float, answers: Sequence[Answer]) -> bytes:
    parts = [REPLY.pack(seconds, len(answers))]
    for status, content in answers:
        parts.append(ANSWER.pack(status, len(content)))
        parts.append(content)
    return frame(Kind.REPLY, number, b"".join(parts))


def read_reply(content: bytes) -> tuple[float, list[Answer]]:
    seconds, count = REPLY.unpack_from(content)
    at, answers = REPLY.size, []
    for _ in range(count):
        status, length = ANSWER.unpack_from(content, at)
        at += ANSWER.size
        answers.append((status, content[at : at + length]))
        at += length
    return seconds, answers


def dumps(value: Any) -> bytes:
    """JSON without spaces; the value holds no NaN and no infinity."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a whole number beyond 64 bits
        pass
    return json.dumps(
        value, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def receive(link: socket.socket) -> tuple[Kind, int, bytes]:
    """The next frame, waiting for it; those of a kind that only later versions know are skipped.

    Raises Broken, and TimeoutError between frames.
    """
    while True:
        length, kind, number = HEAD.unpack(read(link, HEAD.size))
        if not 5 <= length <= LONGEST:
            raise Broken(f"a frame of {length} bytes")
        content = read(link, length - 5)
        if kind in KINDS:
            return KINDS[kind], number, content


def read(link: socket.socket, size: int) -> bytes:
    content = link.recv(size, socket.MSG_WAITALL) if size else b""
    if len(content) == size:
        return content
    pieces, left = [content], size - len(content)
    while left:
        piece = link.recv(left)
        if not piece:
            raise Broken("the other side left")
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def sign(secret: str, challenge: bytes) -> bytes:
    """What proves that both sides hold one secret, without telling it."""
    return hmac.digest(secret.encode(), b"compass line" + challenge, hashlib.sha256)
