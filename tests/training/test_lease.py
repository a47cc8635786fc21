"""A job goes on only while it hears of beats."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from training import lease
from training.lease import GRACE, LEASE, SILENT, Lease
from training.processes import since_boot, start_ticks

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def pipe() -> tuple[Connection, Connection]:
    reader, writer = FORK.Pipe(duplex=False)
    return reader, writer


def in_a_group(act: Callable[[], Any]) -> Any:
    """A child that leads a group of its own and does this."""

    def lead() -> None:
        os.setsid()
        act()

    child = FORK.Process(target=lead)
    child.start()
    return child


def test_nothing_runs_before_the_first_word(
    pipe: tuple[Connection, Connection],
) -> None:
    reader, writer = pipe
    one = Lease(reader, since_boot())
    threading.Thread(target=one._hear, args=(list,), daemon=True).start()
    begun = threading.Thread(target=one.wait, daemon=True)
    begun.start()
    writer.send_bytes(b"stop")
    begun.join(0.1)
    assert begun.is_alive()
    writer.send_bytes(lease.word(since_boot()))
    begun.join(5)
    assert not begun.is_alive()
    writer.close()


def test_words_that_wait_in_the_pipe_count_however_late_they_are_read(
    pipe: tuple[Connection, Connection],
) -> None:
    reader, writer = pipe
    one, stops = Lease(reader, since_boot() - 2 * LEASE), []
    now = since_boot()
    writer.send_bytes(lease.word(now))
    writer.send_bytes(b"stop")
    writer.close()
    one._hear(lambda: stops.append(1))
    assert one._until == now + LEASE
    assert stops == [1]


def test_an_old_word_does_not_extend_it(pipe: tuple[Connection, Connection]) -> None:
    reader, writer = pipe
    long_ago = since_boot() - 60
    one = Lease(reader, long_ago)
    writer.send_bytes(lease.word(long_ago))
    assert one._hear(list) == long_ago + LEASE


def test_a_job_that_stood_still_as_long_as_its_worker_ends_at_once(
    pipe: tuple[Connection, Connection],
) -> None:
    reader, _writer = pipe
    one = Lease(reader, since_boot() - LEASE - GRACE)
    child = in_a_group(lambda: one.listen(lambda: None))
    child.join(GRACE - 1)
    assert child.exitcode == SILENT


def test_what_the_job_started_ends_with_it(
    pipe: tuple[Connection, Connection],
) -> None:
    reader, _writer = pipe
    told, tell = FORK.Pipe(duplex=False)
    one = Lease(reader, since_boot() - LEASE - GRACE)

    def work() -> None:
        sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
        tell.send(subprocess.Popen(sleeper).pid)
        one.listen(lambda: None)

    child = in_a_group(work)
    pid = told.recv()
    child.join(GRACE)
    deadline = since_boot() + 5
    while start_ticks(pid) is not None and since_boot() < deadline:
        time.sleep(0.01)
    assert start_ticks(pid) is None


def test_a_job_that_was_frozen_too_long_does_nothing_more_when_it_wakes(
    pipe: tuple[Connection, Connection], tmp_path: Path
) -> None:
    reader, _writer = pipe
    note = tmp_path / "note"
    one = Lease(reader, since_boot())

    def work() -> None:
        signal.signal(signal.SIGCONT, one.woke)
        one._until -= 2 * LEASE  # as if it were continued after so long
        os.kill(os.getpid(), signal.SIGSTOP)
        note.touch()

    child = in_a_group(work)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    os.kill(child.pid, signal.SIGCONT)
    child.join(5)
    assert child.exitcode == SILENT
    assert not note.exists()
