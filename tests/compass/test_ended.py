"""Clients that write no more: those who still read are answered, those who left are not."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from compass.ended import is_reset
from compass.visitor import CONTINUE
from tests.compass.fronts import DJANGO, PREDICT, Running
from tests.compass.test_lanes import raw_request, until
from tests.inference.conftest import cache, tiny_recipe  # noqa: F401

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.mark.parametrize("path", [PREDICT, DJANGO])
@pytest.mark.parametrize("count", [1, 3])
def test_who_writes_no_more_and_reads_is_answered(
    front: Running, gate: threading.Event, bearer: Any, path: str, count: int
) -> None:
    request = raw_request(bearer).replace(PREDICT.encode(), path.encode())
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(count * request)
        link.shutdown(socket.SHUT_WR)
        until(lambda: any(one._has_ended for one in front.front.visitors))
        gate.set()
        with link.makefile("rb") as reader:
            found = reader.read()
    assert found.startswith(CONTINUE)
    assert found.count(b"HTTP/1.1 200 OK") == count


def test_who_leaves_is_forgotten_before_the_answer(
    front: Running, gate: threading.Event, bearer: Any
) -> None:
    link = socket.create_connection(("127.0.0.1", front.port), 30)
    link.sendall(raw_request(bearer))
    until(lambda: any(one._asked for one in front.front.visitors))
    (asked,) = [one._asked for one in front.front.visitors]
    link.close()
    until(lambda: not front.front.visitors)
    assert asked.request.is_gone
    assert not gate.is_set()


@pytest.mark.parametrize("begun", [b"", b"GET /", b"GET / HTTP/1.1\r\nHost: localhost"])
def test_who_ends_without_a_request_is_left(
    front: Running, begun: bytes, bearer: Any
) -> None:
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(begun)
        link.shutdown(socket.SHUT_WR)
        with link.makefile("rb") as reader:
            assert b"200 OK" not in reader.read()
    until(lambda: not front.front.visitors)


def test_who_cannot_be_looked_at_is_not_taken_to_have_left() -> None:
    assert not is_reset(-1)
