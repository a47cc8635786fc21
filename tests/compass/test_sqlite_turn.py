"""Writers of SQLite take turns, and no turn can be lost or keep anybody out for ever."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import (
    DatabaseError,
    OperationalError,
    connection,
    connections,
    transaction,
)

from compass.sqlite import turn as turns
from compass.sqlite.turn import Turn, turn_of
from registry.models import Pulse
from tests.registry.race import race

PATIENCE = 30  # seconds for the outside world


@pytest.fixture
def turn(tmp_path: Path) -> Turn:
    return Turn(str(tmp_path / "turn"))


@contextmanager
def held_elsewhere(path: Path, *, byte: int = turns.FLOOR) -> Iterator[int]:
    """Another process holds the lock; its pid."""
    context = multiprocessing.get_context("fork")
    ready, end = context.Pipe(duplex=False)
    child = context.Process(target=hold, args=(path, byte, end))
    child.start()
    assert ready.recv() == "held"
    assert child.pid is not None
    try:
        yield child.pid
    finally:
        child.kill()
        child.join(PATIENCE)


def hold(path: Path, byte: int, told: Any) -> None:
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, byte)
    told.send("held")
    signal.pause()


def in_thread(call: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def until(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_threads_get_it_in_the_order_in_which_they_came(turn: Turn) -> None:
    order: list[int] = []

    def write(number: int) -> None:
        assert turn.take()
        order.append(number)
        turn.give_back()

    assert turn.take()
    threads = []
    for number in range(8):
        threads.append(in_thread(lambda number=number: write(number)))
        until(lambda number=number: len(turn._line) == number + 1)
    turn.give_back()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == list(range(8))
    assert turn.take()


def test_another_process_keeps_it_until_it_is_killed(
    turn: Turn, tmp_path: Path
) -> None:
    with held_elsewhere(tmp_path / "turn") as pid:
        taken: list[bool] = []
        thread = in_thread(lambda: taken.append(turn.take()))
        thread.join(0.05)
        assert taken == []
        os.kill(pid, signal.SIGKILL)
        thread.join(PATIENCE)
    assert taken == [True]


@pytest.mark.parametrize("byte", [turns.GATE, turns.FLOOR])
def test_a_frozen_process_keeps_nobody_out(
    byte: int, turn: Turn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "ONCE_IN_VAIN", 0.0)
    turn._patience = 0.01
    with held_elsewhere(tmp_path / "turn", byte=byte) as pid:
        os.kill(pid, signal.SIGSTOP)
        assert not turn.take()
        assert turn._patience == 0.0  # nobody waits long for it again
        assert not turn.take()
    assert turn.take()
    assert turn._patience == turns.PATIENCE


def test_who_gives_up_waiting_leaves_the_line(turn: Turn) -> None:
    assert turn.take()
    turn._patience = 0.01
    assert not turn.take()
    turn.give_back()
    turn._patience = 0.0
    assert turn.take()


def test_without_a_place_for_the_file_one_goes_without(tmp_path: Path) -> None:
    turn = Turn(str(tmp_path / "none" / "turn"))
    assert not turn.take()
    assert not turn.take()


def test_a_forked_child_takes_turns_of_its_own(tmp_path: Path) -> None:
    turn = turn_of(str(tmp_path / "database"))
    assert turn.take()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def child() -> None:
        mine = turn_of(str(tmp_path / "database"))
        mine._patience = 0.01
        there.send((mine is turn, mine.take()))

    process = context.Process(target=child)
    process.start()
    assert here.recv() == (False, False)  # and the parent still holds it
    process.join(PATIENCE)
    turn.give_back()
    assert turn.take()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this thread does with the turn; threads of other tests may still be writing."""
    found: list[str] = []
    take, back, mine = Turn.take, Turn.give_back, threading.get_ident()

    def note(word: str) -> None:
        if threading.get_ident() == mine:
            found.append(word)

    def noted_take(self: Turn) -> bool:
        note("take")
        return take(self)

    def noted_back(self: Turn) -> None:
        note("back")
        back(self)

    monkeypatch.setattr(Turn, "take", noted_take)
    monkeypatch.setattr(Turn, "give_back", noted_back)
    return found


@pytest.mark.django_db(transaction=True)
class TestTheDatabase:
    def test_a_transaction_takes_one_turn_however_deep(self, seen: list[str]) -> None:
        with transaction.atomic():
            Pulse.record("beat")
            with transaction.atomic():
                Pulse.record("rescue")
            assert seen == ["take"]
        assert seen == ["take", "back"]

    def test_a_write_of_its_own_takes_one(self, seen: list[str]) -> None:
        Pulse.objects.filter(name="none").update(at=None)
        assert seen == ["take", "back"]

    def test_a_read_takes_none(self, seen: list[str]) -> None:
        assert not Pulse.objects.exists()
        assert seen == []

    def test_it_is_given_back_after_an_error(self, seen: list[str]) -> None:
        with pytest.raises(ZeroDivisionError):
            fail_within()
        assert seen == ["take", "back"]

    def test_it_is_given_back_when_the_commit_fails(self, seen: list[str]) -> None:
        with pytest.raises(DatabaseError):
            break_at_commit()
        assert seen == ["take", "back"]

    def test_it_is_given_back_when_the_connection_closes_within(
        self, seen: list[str]
    ) -> None:
        with transaction.atomic():
            connection.close()
        assert seen == ["take", "back"]

    def test_it_is_given_back_when_the_transaction_cannot_begin(
        self, seen: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connection.ensure_connection()
        monkeypatch.setattr(connections["default"], "transaction_mode", "AT ONCE")
        with pytest.raises(OperationalError), transaction.atomic():
            pass
        assert seen == ["take", "back"]

    def test_many_threads_write_and_none_finds_it_locked(self) -> None:
        def write() -> int:
            with connection.cursor() as cursor:
                cursor.execute(
                    "PRAGMA busy_timeout = 0"
                )  # whoever finds it locked fails
            for _ in range(20):
                with transaction.atomic():
                    Pulse.record("beat")
                Pulse.objects.filter(name="beat").update(name="beat")
            return 1

        assert race([write] * 8) == [1] * 8


def fail_within() -> None:
    with transaction.atomic():
        Pulse.record("beat")
        raise ZeroDivisionError


def break_at_commit() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("PRAGMA defer_foreign_keys = ON")
        cursor.execute(
            "INSERT INTO registry_apikey (name, prefix, sha256, scopes, created_at,"
            " user_id) VALUES ('', '', '', '[]', '2026-01-01', 9)"
        )
