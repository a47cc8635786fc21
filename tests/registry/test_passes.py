"""Passes for another process: done there, or by the one who asks if nobody does them."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator

import pytest

from registry import dispatcher, passes
from registry.dispatcher import Outcome
from registry.passes import Elsewhere, Server

WITHIN = 20.0  # seconds


@pytest.fixture(autouse=True)
def address(monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"\0compass-passes-test-{secrets.token_hex(8)}"
    monkeypatch.setattr(passes, "address", lambda: name)
    return name


@pytest.fixture
def own() -> Own:
    return Own()


class Own:
    """A pass by the process that asks."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Outcome:
        self.count += 1
        return Outcome(1)


@pytest.fixture
def silent(address: str) -> Iterator[socket.socket]:
    """A process that was stopped: it takes connections and answers none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
        one.bind(address)
        one.listen()
        yield one


def begun(server: Server) -> Server:
    server.start()
    assert server.ready.wait(WITHIN)
    return server


def test_a_pass_is_done_by_the_server_and_its_outcome_comes_back(own: Own) -> None:
    threads: list[str] = []

    def one_pass() -> Outcome:
        threads.append(threading.current_thread().name)
        return Outcome(117, more=True)

    begun(Server(one_pass))
    asked = Elsewhere(own, patience=WITHIN)
    assert asked() == Outcome(117, True)
    assert asked() == Outcome(117, True)
    assert threads == ["passes"] * 2
    assert own.count == 0


def test_without_a_server_one_does_it_oneself(own: Own) -> None:
    asked = Elsewhere(own)
    assert asked() == asked() == Outcome(1)
    assert own.count == 2


def test_a_pass_that_fails_there_is_done_here(
    own: Own, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Outcome:
        raise RuntimeError("the database went away")

    begun(Server(fail))
    asked = Elsewhere(own, patience=WITHIN)
    assert asked() == Outcome(1)
    assert "the database went away" in caplog.text
    assert asked() == Outcome(1)  # the server lives on


def test_one_that_stands_still_is_left_alone_for_a_while(
    own: Own, silent: socket.socket
) -> None:
    moment = 100.0
    asked = Elsewhere(own, clock=lambda: moment, patience=0.01)
    assert asked() == asked() == asked() == Outcome(1)
    assert taken(silent) == 1
    moment += passes.SHUN
    assert asked() == Outcome(1)
    assert taken(silent) == 1


def taken(silent: socket.socket) -> int:
    """How many connections wait there now."""
    silent.settimeout(0)
    count = 0
    while True:
        try:
            link, _ = silent.accept()
        except BlockingIOError:
            return count
        link.close()
        count += 1


def test_nothing_is_done_for_another_user(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Own()
    begun(Server(theirs))
    monkeypatch.setattr(passes.os, "geteuid", lambda: 123456)
    assert Elsewhere(own, patience=WITHIN)() == Outcome(1)
    assert (own.count, theirs.count) == (1, 0)


def test_a_server_waits_for_the_one_before_it_to_end(
    own: Own, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes.time, "sleep", lambda seconds: silent.close())
    begun(Server(lambda: Outcome(7)))
    assert Elsewhere(own, patience=WITHIN)() == Outcome(7)


def test_a_process_says_how_its_passes_are_done(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_run", dispatcher._run)
    monkeypatch.setattr(dispatcher, "_current", dispatcher._current)
    dispatcher.have_done(own)
    dispatcher._current.nudge()
    assert dispatcher.flush(WITHIN)
    assert own.count == 1
