"""A front that is asked to stop: what came is answered, and no connection ends in the middle."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from typing import Any

import pytest

from compass import leaving
from inference import worker
from registry.models import ModelVersion
from tests.compass.fronts import DJANGO, PREDICT, Running
from tests.compass.test_lanes import GOOD, raw_request, until
from tests.inference.conftest import cache, tiny_recipe  # noqa: F401

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class Load:
    """Clients that ask again as soon as they are answered, until nobody is there any more."""

    def __init__(self, front: Running, headers: dict[str, str]) -> None:
        self.front, self.headers = front, headers
        self.statuses: list[int] = []
        self.cut: list[str] = []
        self.threads = [
            threading.Thread(target=self.ask, args=(path, keeps_alive))
            for path in (PREDICT, DJANGO)
            for keeps_alive in (True, True, True, False)
        ]
        for one in self.threads:
            one.start()

    def ask(self, path: str, keeps_alive: bool) -> None:
        link = self.front.connect()
        while True:
            try:
                if link.sock is None:
                    link.connect()
            except OSError:
                return  # refused, or nobody was there to answer
            try:
                answer = self.front.ask(GOOD, self.headers, path, link)
                self.statuses.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                self.cut.append(f"{path}: {error!r}")
                link.close()
            if not keeps_alive:
                link.close()


def test_under_load_every_request_is_answered(
    front: Running,
    inference: worker.Worker,
    version: ModelVersion,
    bearer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A slow host takes longer from an answer to the next request.
    monkeypatch.setattr(leaving, "GRACE", 15.0)
    monkeypatch.setattr(leaving, "WITHIN", 15.0)
    load = Load(front, bearer)
    until(lambda: len(load.statuses) > 200)
    front.end()
    for one in load.threads:
        one.join(20)
    assert load.cut == []
    assert set(load.statuses) == {200}


def begin_to_leave(front: Running) -> None:
    front.loop.call_soon_threadsafe(front.stop.set)
    until(lambda: front.front.is_leaving)


def tell_all(link: socket.socket) -> list[bytes]:
    """The answers until the other side closes."""
    with link.makefile("rb") as reader:
        return [b"HTTP/1.1" + one for one in reader.read().split(b"HTTP/1.1")[1:]]


def is_asked(front: Running) -> bool:
    return any(one._is_held or one._is_djangos for one in front.front.visitors)


@pytest.mark.parametrize("path", [PREDICT, DJANGO])
def test_what_is_computed_is_answered_and_idle_connections_end_before(
    front: Running, gate: threading.Event, bearer: Any, path: str
) -> None:
    request = raw_request(bearer).replace(PREDICT.encode(), path.encode())
    with (
        socket.create_connection(("127.0.0.1", front.port), 30) as idle,
        socket.create_connection(("127.0.0.1", front.port), 30) as link,
    ):
        until(lambda: len(front.front.visitors) == 2)
        link.sendall(request)
        until(lambda: is_asked(front))
        begin_to_leave(front)
        assert idle.recv(1) == b""
        with pytest.raises(OSError, match=r"refused"):
            socket.create_connection(("127.0.0.1", front.port), 30)
        gate.set()
        (answer,) = tell_all(link)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close\r\n" in answer
    front.end()


def test_requests_sent_at_once_are_all_answered(
    front: Running, gate: threading.Event, bearer: Any
) -> None:
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(5 * raw_request(bearer))
        until(lambda: is_asked(front))
        begin_to_leave(front)
        gate.set()
        found = tell_all(link)
    assert [one[:12] for one in found] == [b"HTTP/1.1 200"] * 5
    assert [b"Connection: close" in one for one in found] == [False] * 4 + [True]


def test_a_request_that_was_half_there_is_answered(
    front: Running, gate: threading.Event, bearer: Any
) -> None:
    gate.set()
    whole = raw_request(bearer)
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(whole[:-5])
        until(lambda: any(one._early for one in front.front.visitors))
        begin_to_leave(front)
        link.sendall(whole[-5:])
        (answer,) = tell_all(link)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("path", [PREDICT, DJANGO])
def test_what_takes_too_long_is_told_so(
    front: Running,
    gate: threading.Event,
    bearer: Any,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    monkeypatch.setattr(leaving, "WITHIN", 0.1)
    request = raw_request(bearer, extra="X-Request-ID: mine.1\r\n")
    request = request.replace(PREDICT.encode(), path.encode())
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(request)
        until(lambda: is_asked(front))
        begin_to_leave(front)
        (answer,) = tell_all(link)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Retry-After: 1" in head
    assert b"Connection: close" in head
    told = json.loads(body)
    assert told["request_id"] == "mine.1"
    assert (told["code"], "was stopped" in told["detail"]) == ("busy", True)
    assert ("not known" in told["detail"]) is (path == DJANGO)
