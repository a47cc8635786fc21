"""The front between clients and Django's server: what it holds, and what it says in its place."""

from __future__ import annotations

import http
import json
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from compass import replies
from compass.room import Room
from compass.visitor import CONTINUE, Visitor
from inference import worker
from inference.traffic import REFUSED, Counter
from registry.errors import CATALOGUE, Problem
from registry.models import ModelVersion
from tests.compass.fronts import Running
from tests.compass.test_lanes import GOOD, answers, raw_request, until
from tests.inference.conftest import cache, tiny_recipe  # noqa: F401

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_statuses_are_named_as_djangos_server_names_them() -> None:
    for code, (status, _) in CATALOGUE.items():
        problem = Problem(code, "What is the matter.")
        first = replies.bad(problem, "a", is_last=False).partition(b"\r\n")[0]
        if status >= 500:
            phrase = http.HTTPStatus(status).phrase
            assert first == f"HTTP/1.1 {status} {phrase}".encode()


def test_large_bodies_beyond_the_fronts_room_are_read_by_django(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    front.front.room = Room(150_000)
    large = json.dumps({**GOOD, "inputs": [{"x": "a" * 100_000}]}).encode()
    assert front.ask(large, bearer).is_raw_lane
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(raw_request(bearer, large)[:-10])
        until(lambda: front.front.room.left < 100_000)
        answer = front.ask(large, bearer)
        assert (answer.status, answer.is_raw_lane) == (200, False)
        link.sendall(large[-10:])
        assert answers(link, 1) == [200]
        assert front.ask(large, bearer).is_raw_lane
        link.sendall(raw_request(bearer, large)[:-10])
        until(lambda: front.front.room.left < 100_000)
    until(lambda: front.front.room.left == 150_000)
    assert front.ask(large, {"Authorization": "Bearer cmp_no"}).status == 401
    until(lambda: front.front.room.left == 150_000)


@pytest.mark.parametrize(
    ("begun", "has_ended"),
    [
        (b"", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", False),
        (b"", True),
    ],
)
def test_a_request_over_which_djangos_server_ends_is_answered(
    db: None, begun: bytes, has_ended: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def leave() -> None:
            link, _ = server.accept()
            with link:
                link.recv(65536)
                if has_ended:
                    until(lambda: any(one._has_ended for one in front.front.visitors))
                link.sendall(begun)

        threading.Thread(target=leave, daemon=True).start()
        front = Running().begin(server.getsockname())
        try:
            with socket.create_connection(("127.0.0.1", front.port), 30) as link:
                link.sendall(
                    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-request-id: mine.1\r\n\r\n"
                )
                if has_ended:
                    link.shutdown(socket.SHUT_WR)
                with link.makefile("rb") as reader:
                    found = reader.read()
        finally:
            front.end()
    if begun:
        assert found == begun
        return
    if has_ended:
        assert found.startswith(CONTINUE)
        found = found.removeprefix(CONTINUE)
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Retry-After: 1" in head
    told = json.loads(body)
    assert (told["code"], told["request_id"]) == ("busy", "mine.1")
    assert b"X-Request-ID: mine.1\r\n" in head


def test_a_connection_is_refused_and_that_counted_once() -> None:
    sent: list[bytes] = []
    front: Any = SimpleNamespace(refused=Counter(REFUSED), room=Room(), visitors=set())
    one = Visitor(front)
    one.transport = SimpleNamespace(write=sent.append, close=int)
    one.refuse(Problem("busy", "It is left."))
    one.refuse(Problem("busy", "The web process ended."))
    assert [b"It is left." in answer for answer in sent] == [True]
    assert front.refused.take() == {"busy": {"": 1}}


def test_answers_that_nobody_reads_are_not_gathered_without_end(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    many = raw_request(bearer, json.dumps({**GOOD, "inputs": [3] * 1000}).encode())
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", front.port))

        def send() -> None:
            for _ in range(2000):
                link.sendall(many)

        sender = threading.Thread(target=send)
        sender.start()
        (one,) = until_one(front)
        until(lambda: one._is_full and one._is_paused)
        size = one.transport.get_write_buffer_size()
        assert front.ask(GOOD, bearer).status == 200
        assert one.transport.get_write_buffer_size() == size
        assert len(one._early) < 1_000_000
        link.settimeout(30)
        assert answers(link, 2000) == [200] * 2000
        sender.join(30)
        assert front.ask(GOOD, bearer).status == 200


def until_one(front: Running) -> list[Any]:
    until(lambda: front.front.visitors)
    return list(front.front.visitors)
