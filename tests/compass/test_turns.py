"""Submits reach Django's server a few at a time, and none is held up by another that stands."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from compass import turns
from compass.turns import Turns
from tests.compass.fronts import Running

SUBMIT = "/api/v1/training/tasks"
BODY = b'{"recipe": "tabular"}'
HEAD = b"POST %b HTTP/1.1\r\nHost: localhost\r\n" % SUBMIT.encode()
LONG = b"Content-Length: 21\r\n\r\n"


@pytest.mark.parametrize(
    "path", ["/api/v1/scripts", "/jobs/submit", "/api/v1/jobs/submit", SUBMIT]
)
def test_a_whole_submit_is_known_by_its_first_line_and_its_length(path: str) -> None:
    head = HEAD.replace(SUBMIT.encode(), path.encode()) + LONG
    assert turns.size(head + BODY) == len(head) + 21
    assert turns.size(head) == len(head) + 21
    assert turns.size(head[:-2]) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET /api/v1/training/tasks HTTP/1.1\r\n\r\n",
        b"POST /api/v1/training/tasks/7/cancel HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"POST /api/v1/uploads HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        HEAD + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n" + LONG,
        HEAD + b"Expect: 100-continue\r\n" + LONG,
        HEAD + b"Content-Length: 20\r\n" + LONG + BODY,
        HEAD + b"Content-Length: 70000\r\n\r\n",
        HEAD + b"X: " + b"x" * turns.MOST,
    ],
)
def test_all_else_goes_to_django_at_once(data: bytes) -> None:
    assert turns.size(data) is None


@dataclass(eq=False)
class Client:
    transport: Any = True
    is_in_line: bool = True
    went: int = 0

    def take_turn(self) -> None:
        self.is_in_line = False
        self.went += 1


def went(*clients: Client) -> list[int]:
    return [one.went for one in clients]


def test_the_next_goes_when_one_has_its_answer() -> None:
    line, clients = Turns(at_once=2), [Client() for _ in range(4)]
    for one in clients:
        line.ask(one)  # type: ignore[arg-type]
    assert went(*clients) == [1, 1, 0, 0]
    line.end(clients[1])  # type: ignore[arg-type]
    assert went(*clients) == [1, 1, 1, 0]
    line.end(clients[3])  # type: ignore[arg-type]
    assert went(*clients) == [1, 1, 1, 0]


def test_who_left_or_went_without_a_turn_takes_none() -> None:
    line, first, gone, impatient, last = Turns(1), *(Client() for _ in range(4))
    for one in (first, gone, impatient, last):
        line.ask(one)  # type: ignore[arg-type]
    gone.transport = None
    impatient.take_turn()
    line.end(first)  # type: ignore[arg-type]
    assert went(first, gone, impatient, last) == [1, 0, 1, 1]


def test_one_that_takes_long_gives_up_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns.time, "monotonic", lambda: 10.0)
    line, slow, other = Turns(1), Client(), Client()
    line.ask(slow)  # type: ignore[arg-type]
    line.ask(other)  # type: ignore[arg-type]
    line.look(10.0 + turns.LONGEST)
    assert other.went == 0
    line.look(10.1 + turns.LONGEST)
    assert other.went == 1
    line.end(slow)  # type: ignore[arg-type]


@dataclass
class Behind:
    """Stands for Django's server: counts who is inside, and answers when told."""

    server: socket.socket = field(default_factory=lambda: socket.create_server(("", 0)))
    inside: int = 0
    most: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    is_open: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> tuple[str, int]:
        threading.Thread(target=self._accept, daemon=True).start()
        return "127.0.0.1", self.server.getsockname()[1]

    def wait_for(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.inside == count, 20)

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[link], daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        data = b""
        with link:
            while piece := link.recv(4096):
                data += piece
                while BODY in data:
                    data = data.split(BODY, 1)[1]
                    self._answer(link)

    def _answer(self, link: socket.socket) -> None:
        with self.changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.changed.notify_all()
        self.is_open.wait(20)
        with self.changed:
            self.inside -= 1
            self.changed.notify_all()
        link.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")


@pytest.fixture
def behind() -> Iterator[Behind]:
    one = Behind()
    yield one
    one.is_open.set()
    one.server.close()


@pytest.fixture
def front(transactional_db: None, behind: Behind) -> Iterator[Running]:
    one = Running().begin(behind.begin())
    yield one
    behind.is_open.set()
    one.end()


def submits(front: Running, count: int) -> list[http.client.HTTPConnection]:
    links = [front.connect() for _ in range(count)]
    for link in links:
        link.request("POST", SUBMIT, BODY)
    return links


def answered(links: list[http.client.HTTPConnection]) -> list[int]:
    return [(answer := link.getresponse(), answer.read())[0].status for link in links]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_many_submits_are_all_answered_and_few_are_inside(
    front: Running, behind: Behind
) -> None:
    links = submits(front, 8)
    assert behind.wait_for(turns.AT_ONCE)
    behind.is_open.set()
    assert answered(links) == [202] * 8
    for link in links:  # the same connections again
        link.request("POST", SUBMIT, BODY)
    assert answered(links) == [202] * 8
    assert behind.most == turns.AT_ONCE


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_that_leaves_inside_lets_the_next_one_in(
    front: Running, behind: Behind
) -> None:
    links = submits(front, turns.AT_ONCE)
    assert behind.wait_for(turns.AT_ONCE)
    late = submits(front, 1)
    links[0].close()
    assert behind.wait_for(turns.AT_ONCE + 1)
    behind.is_open.set()
    assert answered(late + links[1:]) == [202] * turns.AT_ONCE


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_who_writes_no_more_is_answered_without_a_turn(
    front: Running, behind: Behind
) -> None:
    submits(front, turns.AT_ONCE)
    assert behind.wait_for(turns.AT_ONCE)
    [late] = submits(front, 1)
    late.sock.shutdown(socket.SHUT_WR)
    assert behind.wait_for(turns.AT_ONCE + 1)
    behind.is_open.set()
    assert answered([late]) == [202]
