"""The worker's socket: batches in, answers by id, and nobody waits for another's model."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings

from inference import caller, frames, gateway, known, line, links, peer
from inference.frames import Kind, Status
from inference.line import Line
from inference.links import Link, Place
from inference.peer import Peer
from inference.routes import Found
from registry import cores
from registry.errors import Problem
from registry.models import Node, Service

SLOW, FAST, GONE, BAD = 1, 2, 3, 4


class Room:
    """A model that doubles; the slow one waits until it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: list[int] = []

    def predict(self, version: int, items: Any) -> list[dict[str, Any]]:
        self.asked.append(len(items))
        if version == SLOW:
            assert self.gate.wait(20)
        if version == GONE:
            raise Problem("model_unavailable", "It is not there.", retry_after=3)
        if version == BAD:
            raise RuntimeError("/secret/place")
        return [{"y": 2 * one["x"]} for one in items]


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def open_line(room: Room, tmp_path: Path) -> Iterator[tuple[Line, Place]]:
    one = Line(room.predict, lambda: {"name": "inference@one", "versions": [FAST]})
    path = tmp_path / "l.sock"
    one.open(path)
    yield one, Place("inference@one", "a", str(path), "", 0)
    room.gate.set()
    one.close()


@pytest.fixture
def link(open_line: tuple[Line, Place]) -> Iterator[Link]:
    one = Link(open_line[1])
    yield one
    one.close()


def ask(link: Link, number: int, version: int, *lists: bytes) -> None:
    link.socket.settimeout(20)
    link.socket.sendall(frames.ask(number, version, 5000, lists))


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def answers(link: Link) -> tuple[int, list[tuple[int, Any]]]:
    kind, number, content = frames.receive(link.socket)
    assert kind is Kind.REPLY
    _, found = frames.read_reply(content)
    return number, [(s, json.loads(one) if one else None) for s, one in found]


def test_a_worker_greets_with_what_it_holds(link: Link) -> None:
    assert link.told == {"name": "inference@one", "versions": [FAST]}


def test_a_batch_is_computed_as_one_and_answered_apart(link: Link, room: Room) -> None:
    ask(link, 7, FAST, b'[{"x": 1}]', b'[{"x": 2}, {"x": 3}]')
    number, found = answers(link)
    assert number == 7
    assert found == [
        (Status.OUTPUTS, [{"y": 2}]),
        (Status.OUTPUTS, [{"y": 4}, {"y": 6}]),
    ]
    assert room.asked == [3]


@pytest.mark.parametrize(
    "odd",
    [
        b"", b"[", b"[]", b"{}", b"3", b"[NaN]", b"[-Infinity]", b"[1e999]", b"[1E+400]",
        b"[1] [2]", b'[1],"model":"b","x":[2]', b'["\\ud800"]', b'["\\u0000"]', b"\xff",
        b'["\xed\xa0\x80"]', b"[" + b"9" * 400 + b".0]", b"[" * 70 + b"]" * 70,
        b"[" * 5000 + b"]" * 5000, b"[" + b"1," * 1000 + b"1]", b'["\x00"]',
    ],
)  # fmt: skip
def test_what_is_odd_is_left_and_hurts_no_neighbour(link: Link, odd: bytes) -> None:
    ask(link, 1, FAST, odd, b'[{"x": 1}]')
    assert answers(link)[1] == [(Status.ODD, None), (Status.OUTPUTS, [{"y": 2}])]


@pytest.mark.parametrize(
    ("most", "code"), [(20, "too_large"), (35, "busy")], ids=["alone", "together"]
)
def test_of_answers_too_long_for_one_frame_the_longest_are_left_out(
    link: Link, monkeypatch: pytest.MonkeyPatch, most: int, code: str
) -> None:
    monkeypatch.setattr(frames, "MOST_ANSWERS", most)
    ask(link, 1, FAST, b'[{"x":1}]', b'[{"x":1},{"x":2},{"x":3}]', b'[{"x":4}]')
    first, (status, told), third = answers(link)[1]
    assert (first[1], third[1]) == ([{"y": 2}], [{"y": 8}])
    assert (status, told["code"]) == (Status.PROBLEM, code)
    assert "25 bytes" in told["detail"]


class Piece(bytes):
    """What came by a socket, and is not to be copied once more for each piece behind it."""

    def __radd__(self, other: bytes) -> bytes:
        raise AssertionError("copied")


def test_a_long_frame_is_put_together_once() -> None:
    whole = frames.reply(5, 0.1, [(Status.OUTPUTS, bytes(1000))])
    pieces = [Piece(whole[at : at + 7]) for at in range(0, len(whole), 7)]
    link: Any = SimpleNamespace(recv=lambda size, flags=0: pieces.pop(0)[:size])
    assert frames.read(link, len(whole)) == whole
    told: list[Any] = []
    one = peer.Peer(Place("w", "1", "", "", 0), {}, lambda: None)
    for number, size in ((1, 3), (2, 1000), (3, 40)):
        reply = partial(lambda number, _, found: told.append((number, found)), number)
        one.flights[number] = peer.Flight(FAST, 1, reply, lambda: None)
        one.outstanding += 1
        whole = frames.reply(number, 0.1, [(Status.OUTPUTS, bytes(size))])
        two = whole + frames.frame(Kind.PONG, 0, b'{"versions": [7]}')
        for at in range(0, len(two), 11):
            one.data_received(Piece(two[at : at + 11]))
        assert (told[-1], one.versions) == ((number, [(0, bytes(size))]), {7})
    assert (len(told), one.outstanding) == (3, 0)


@pytest.mark.parametrize(("workers", "at_once"), [(1, 4), (2, 2), (8, 1)])
def test_a_version_is_computed_as_often_at_once_as_the_worker_has_cores(
    link: Link, room: Room, monkeypatch: pytest.MonkeyPatch, workers: int, at_once: int
) -> None:
    monkeypatch.setattr(cores, "count", lambda: 4)
    several = replace(settings.ENVIRONMENT, inference_workers=workers)
    monkeypatch.setattr(settings, "ENVIRONMENT", several)
    monkeypatch.setattr(caller, "TURN_WITHIN", 20.0)
    for number in range(1, 8):
        ask(link, number, SLOW, b'[{"x": 1}]')
    ask(link, 20, FAST, b'[{"x": 1}]')
    assert answers(link)[0] == 20
    until(lambda: room.asked.count(1) > at_once)
    assert room.asked == [1] * (at_once + 1)
    room.gate.set()
    assert {answers(link)[0] for _ in range(7)} == set(range(1, 8))


def test_a_pass_that_takes_long_holds_up_no_others_of_its_version(
    link: Link, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "count", lambda: 1)
    for number in range(1, 4):
        ask(link, number, SLOW, b'[{"x": 1}]')
    until(lambda: len(room.asked) == 3)
    room.gate.set()
    assert {answers(link)[0] for _ in range(3)} == {1, 2, 3}


def test_a_quick_batch_whose_version_is_busy_keeps_no_others_from_being_read(
    link: Link, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Line, "is_quick", lambda self, version, count: count == 1)
    monkeypatch.setattr(cores, "count", lambda: 1)
    ask(link, 1, SLOW, b'[{"x": 1}]', b'[{"x": 1}]')
    until(lambda: room.asked == [2])
    ask(link, 2, SLOW, b'[{"x": 1}]')
    ask(link, 3, FAST, b'[{"x": 1}]')
    assert answers(link)[0] == 3
    room.gate.set()
    assert {answers(link)[0] for _ in range(2)} == {1, 2}


def test_a_later_batch_overtakes_one_that_takes_long(link: Link, room: Room) -> None:
    for number in range(1, 12):
        ask(link, number, SLOW, b'[{"x": 1}]')
    ask(link, 20, FAST, b'[{"x": 1}]')
    assert answers(link)[0] == 20
    link.socket.sendall(frames.frame(Kind.PING, 5))
    kind, number, _ = frames.receive(link.socket)
    assert (kind, number) == (Kind.PONG, 5)
    room.gate.set()
    assert {answers(link)[0] for _ in range(11)} == set(range(1, 12))


@pytest.mark.parametrize(
    ("version", "code"), [(GONE, "model_unavailable"), (BAD, "internal")]
)
def test_what_concerns_all_is_told_to_all_without_a_trace(
    link: Link, version: int, code: str
) -> None:
    ask(link, 1, version, b'[{"x": 1}]', b"[", b'[{"x": 2}]')
    found = answers(link)[1]
    assert [status for status, _ in found] == [
        Status.PROBLEM, Status.ODD, Status.PROBLEM,
    ]  # fmt: skip
    assert found[0][1]["code"] == code
    assert "secret" not in json.dumps(found)


def test_nonsense_ends_its_connection_only(
    open_line: tuple[Line, Place], link: Link
) -> None:
    other = Link(open_line[1])
    other.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    other.socket.settimeout(20)
    with suppress(ConnectionResetError):
        assert other.socket.recv(10) == b""
    other.close()
    ask(link, 1, FAST, b'[{"x": 1}]')
    assert answers(link)[0] == 1


LATER = frames.HEAD.pack(5 + 7, 99, 1) + b"content"  # of a kind that is not known


def test_a_worker_skips_what_only_later_versions_say(link: Link) -> None:
    link.socket.sendall(LATER)
    ask(link, 1, FAST, b'[{"x": 1}]')
    link.socket.sendall(LATER)
    assert answers(link) == (1, [(Status.OUTPUTS, [{"y": 2}])])
    ask(link, 2, FAST, b'[{"x": 2}]')
    assert answers(link) == (2, [(Status.OUTPUTS, [{"y": 4}])])


def test_whoever_asks_skips_what_only_later_workers_say(
    open_line: tuple[Line, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("frame", "reply"):
        make = getattr(frames, name)
        before = lambda *about, make=make: LATER + make(*about)  # noqa: E731
        monkeypatch.setattr(frames, name, before)
    link = Link(open_line[1])
    assert link.told["versions"] == [FAST]
    assert link.ask(FAST, b'[{"x": 4}]', 20) == (Status.OUTPUTS, b'[{"y":8}]')
    link.close()
    peer = Peer(open_line[1], {}, lambda: None)
    peer.data_received(frames.frame(Kind.PONG, 0, b'{"versions": [3]}'))
    assert peer.versions == {3}


def test_a_watched_batch_is_answered_alike_and_told_of(
    open_line: tuple[Line, Place], link: Link
) -> None:
    seen = threading.Event()
    told: list[Any] = []

    def watch(*about: Any) -> None:
        told.append(about)
        seen.set()

    open_line[0].watch = watch
    link.socket.settimeout(20)
    lists = [b'[{"x": 1}]', b"odd"]
    link.socket.sendall(frames.ask(7, FAST, 5000, lists, watch=(11, 12)))
    assert answers(link) == (7, [(Status.OUTPUTS, [{"y": 2}]), (Status.ODD, None)])
    assert seen.wait(20)
    ((about, version, items, found, spent),) = told
    assert (about, version, items) == ((11, 12), FAST, lists)
    assert [status for status, _ in found] == [Status.OUTPUTS, Status.ODD]
    assert spent > 0


@pytest.mark.parametrize("size", [0, 5, 17, 20])
def test_a_watched_batch_that_is_cut_ends_its_connection_only(
    open_line: tuple[Line, Place], link: Link, size: int
) -> None:
    other = Link(open_line[1])
    whole = frames.ask(7, FAST, 5000, [b"[1]"], watch=(11, 12))
    content = whole[frames.HEAD.size :][:size]
    other.socket.sendall(frames.frame(Kind.WATCHED, 7, content))
    other.socket.settimeout(20)
    with suppress(ConnectionResetError):
        assert other.socket.recv(10) == b""
    other.close()
    ask(link, 1, FAST, b'[{"x": 1}]')
    assert answers(link)[0] == 1


def test_other_hosts_must_hold_the_secret(
    open_line: tuple[Line, Place], settings: Any
) -> None:
    one = open_line[0]
    port = one.open_tcp("127.0.0.1", 0)
    away = Place("inference@one", "a", "", "127.0.0.1", port)
    link = Link(away)
    assert link.ask(FAST, b'[{"x": 4}]', 5) == (Status.OUTPUTS, b'[{"y":8}]')
    (caller,) = one._callers  # if the other host is gone without a word, it ends
    assert caller.link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert caller.link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 0
    link.close()
    settings.SECRET_KEY = "another"
    with pytest.raises(OSError, match=r"left|reset"):
        Link(away)


def test_a_server_without_the_secret_is_not_believed() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(bytes(2 * frames.CHALLENGE))
        with pytest.raises(frames.Broken, match="secret"):
            links.introduce(ours, "key")


def test_threads_end_with_their_connection(open_line: tuple[Line, Place]) -> None:
    before = threading.active_count()
    for _ in range(5):
        link = Link(open_line[1])
        for number in range(10):
            ask(link, number, FAST, b'[{"x": 1}]')
        for _ in range(10):
            answers(link)
        link.close()
    end = time.monotonic() + 20
    while open_line[0]._callers or threading.active_count() > before:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_while_no_thread_can_begin_those_that_are_there_answer(
    open_line: tuple[Line, Place], link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        ask(link, 1, FAST, b'[{"x": 1}]')
        ask(link, 2, BAD, b'[{"x": 1}]')
        assert {answers(link)[0] for _ in range(2)} == {1, 2}
        with pytest.raises(OSError, match=r"left|reset"):
            Link(open_line[1])
    until(lambda: open_line[0].outstanding == 0)
    other = Link(open_line[1])
    ask(other, 3, FAST, b'[{"x": 1}]')
    assert answers(other)[0] == 3
    other.close()


@pytest.mark.django_db
def test_a_line_is_a_service_until_its_worker_stops(
    inference_node: Node, cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference import worker

    one = worker.Worker("inference@one", cache)
    monkeypatch.setattr(one._tuner, "look", lambda: None)

    class Member:
        node = inference_node

    one._membership = Member()  # type: ignore[assignment]
    one._open_line()
    (place,) = links.places()
    assert (place.name, place.is_here) == ("inference@one", True)
    one._on_beat(inference_node)
    row = Service.objects.get()
    assert row.metadata["models"] == []
    Service.objects.create(
        service_name=row.service_name, state=row.state, beat_at=row.beat_at,
        incarnation="a stranger's", metadata={"models": 5, "port": "x"},
        registered_at=row.registered_at, host=row.host, port=1,
    )  # fmt: skip
    assert [one.name for one in links.places()] == ["inference@one"]
    one._close_line()
    assert links.places() == []


def test_a_path_that_is_too_long_is_shortened(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / ("x" * 120)
    assert len(str(line.socket_path("inference@one"))) < line.PATH_LIMIT


def test_a_closed_line_leaves_no_file_but_that_of_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    first, second = (Line(lambda *_: [], dict) for _ in range(2))
    first.open(path)
    second.open(path)
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Place]:
    """A worker that greets whoever comes, and then stands still."""
    path, held = tmp_path / "s.sock", list[socket.socket]()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def greet() -> None:
        with suppress(OSError):
            while True:
                held.append(listening.accept()[0])
                told = b'{"name": "inference@still", "versions": []}'
                held[-1].sendall(frames.frame(Kind.PONG, 0, told))

    thread = threading.Thread(target=greet)
    thread.start()
    yield Place("inference@still", "b", str(path), "", 0)
    listening.shutdown(socket.SHUT_RDWR)
    thread.join(20)
    for one in [listening, *held]:
        one.close()


def test_a_worker_that_stands_still_is_given_up_before_the_deadline(
    silent: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "QUIET", 0.01)
    link = Link(silent)
    link.patience = 0.02
    with pytest.raises(links.Silent):
        link.ask(FAST, b'[{"x": 4}]', 60)
    link.patience = None
    with pytest.raises(TimeoutError):
        link.ask(FAST, b'[{"x": 4}]', 0.05)
    link.close()


def test_a_worker_that_computes_for_long_is_waited_for(
    link: Link, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "QUIET", 0.01)
    link.patience = 5.0
    threading.Timer(0.2, room.gate.set).start()
    assert link.ask(SLOW, b'[{"x": 4}]', 60) == (Status.OUTPUTS, b'[{"y":8}]')


@pytest.mark.django_db
def test_another_worker_answers_for_one_that_stands_still(
    silent: Place,
    open_line: tuple[Line, Place],
    inference_node: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "QUIET", 0.01)
    monkeypatch.setattr(gateway, "PATIENCE", 0.02)
    monkeypatch.setattr(gateway, "_silent", {})
    monkeypatch.setattr(gateway, "_local", threading.local())
    monkeypatch.setattr(gateway, "_known", known.Known())
    monkeypatch.setattr(known.random, "sample", lambda some, _: list(some))
    monkeypatch.setattr(links, "places", lambda: [silent, open_line[1]])
    found = Found(FAST, "m", 1, 0)
    assert gateway.ask(found, [{"x": 4}], timeout=60) == [{"y": 8}]
    assert list(gateway._silent) == [silent]
    connect = gateway.Link
    monkeypatch.setattr(gateway, "Link", lambda place: pytest.fail(place.name))
    assert gateway.ask(found, [{"x": 5}], timeout=60) == [{"y": 10}]
    monkeypatch.setattr(gateway, "Link", connect)
    for one in gateway._local.links.values():
        one.close()


def test_a_connection_that_is_dropped_is_closed_and_one_that_is_given_away_is_not(
    open_line: Any,
) -> None:
    dropped, given = Link(open_line[1]), Link(open_line[1])
    closed, kept = dropped.socket, given.give()
    del dropped, given
    gc.collect()
    assert closed.fileno() == -1
    assert kept.fileno() != -1
    kept.close()
