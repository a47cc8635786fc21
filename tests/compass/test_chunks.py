"""Bodies in chunks: passed on as they came once they are whole, or refused as malformed."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest

from compass import chunks, visitor
from compass.chunks import Chunked
from registry.errors import Problem
from tests.compass.fronts import PREDICT, Running
from tests.compass.test_lanes import until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

HEAD = (
    b"POST /api/v1/models/m/aliases/a HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)
GOOD = b"2\r\n{}\r\n0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def came() -> Queue[bytes]:
    return Queue()


@pytest.fixture
def front(db: None, came: Queue[bytes]) -> Iterator[Running]:
    """With a server behind it that answers whatever comes, and keeps it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    came.put(link.recv(1_000_000))
                    link.sendall(OK)

        thread = threading.Thread(target=answer)
        thread.start()
        one = Running().begin(server.getsockname())
        yield one
        one.end()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(20)


def early(front: Running) -> list[bytes]:
    return [one._early for one in front.front.visitors]


def ask(front: Running, *pieces: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, piece in enumerate(pieces, 1):
            link.sendall(piece)
            whole = b"".join(pieces[:number])
            if number < len(pieces):
                until(lambda whole=whole: early(front) == [whole])
        with link.makefile("rb") as reader:
            return reader.read()


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"zz", b"\r\n", b"-2\r\n{}", b"2\r\n{}\r\nzz\r\n0\r\n\r\n", b"2\r\n{}0\r\n\r\n", b"2\n{}\n0\n\n"],
)  # fmt: skip
@pytest.mark.parametrize("is_prediction", [False, True])
def test_what_are_no_chunks_is_refused_as_malformed(
    front: Running, came: Queue[bytes], body: bytes, is_prediction: bool
) -> None:
    head = HEAD
    if is_prediction:
        head = HEAD.replace(b"/api/v1/models/m/aliases/a", PREDICT.encode())
    answer, _, content = ask(front, head + body).partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close" in answer
    assert b"application/problem+json" in answer
    assert json.loads(content)["code"] == "malformed"
    assert came.empty()


def test_whole_bodies_are_passed_on_as_they_came(
    front: Running, came: Queue[bytes]
) -> None:
    assert ask(front, HEAD + GOOD) == OK
    assert came.get() == HEAD + GOOD
    body = b'9;name="x"\r\n{"a": 1}\n\r\n0\r\nEtag: 1\r\n\r\n'
    assert ask(front, *(HEAD, body[:3], body[3:17], body[17:])) == OK
    assert came.get() == HEAD + body


def test_a_body_that_stands_still_is_left_to_django(
    front: Running, came: Queue[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitor, "PATIENCE", 0.0)
    assert ask(front, HEAD + GOOD[:4]) == OK
    assert came.get() == HEAD + GOOD[:4]


@pytest.mark.parametrize("at", range(len(GOOD)))
def test_no_place_to_cut_is_taken_for_an_end_or_a_fault(at: int) -> None:
    one: Any = Chunked.of(HEAD)
    assert not one.is_over(HEAD + GOOD[:at])
    assert one.is_over(HEAD + GOOD)


def test_a_long_body_is_not_held() -> None:
    one: Any = Chunked.of(HEAD)
    many = b"1\r\n \r\n" * (chunks.MOST // 6)
    assert not one.is_over((HEAD + many)[: chunks.MOST])
    assert one.is_over(HEAD + many)
    with pytest.raises(Problem, match="chunks"):
        Chunked(len(HEAD)).is_over(HEAD + b"zz\r\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"application/json", b"text/csv"),
        (b"chunked", b"gzip, chunked"),
        (b"Host: localhost", b"Expect: 100-continue"),
        (b"Host: localhost", b"Content-Length: 3"),
        (b"Transfer-Encoding: chunked\r\n", b""),
        (b"\r\n\r\n", b"\r\n"),
    ],
)
def test_other_bodies_are_not_looked_at(before: bytes, after: bytes) -> None:
    assert Chunked.of(HEAD) is not None
    assert Chunked.of(HEAD.replace(before, after)) is None


def test_a_body_that_ends_in_its_middle_is_refused(
    front: Running, came: Queue[bytes]
) -> None:
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(HEAD + b"5\r\nhel")
        until(lambda: any(one._intake.is_amid_chunks for one in front.front.visitors))
        link.shutdown(socket.SHUT_WR)
        with link.makefile("rb") as reader:
            answer, _, content = reader.read().partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(content)["code"] == "malformed"
    assert came.empty()
