"""How `up` fails: one sentence and exit code 1; what the stack does meanwhile is cut off."""

from __future__ import annotations

import errno
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError

from compass import stack as module
from compass.env import Environment
from compass.lock import DirectoryLock
from compass.plan import Plan
from compass.stack import Stack, Stopped


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OperationalError("connection refused\nIs it running?"), "connection refused."),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device."),
        (
            OSError(errno.EROFS, "Read-only file system", "/data/lock"),
            "/data/lock cannot be used: Read-only file system.",
        ),
        (PermissionError("/data/broker belongs to somebody else."), "somebody else."),
    ],
)
def test_what_keeps_it_from_starting_is_one_sentence(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Stack) -> None:
        raise error

    monkeypatch.setattr(Stack, "run", fail)
    with pytest.raises(CommandError) as caught:
        call_command("up")
    assert caught.value.returncode == 1
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Errno" not in str(caught.value)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return replace(settings.ENVIRONMENT, data_dir=tmp_path, embedded_broker=False)


def test_a_directory_that_goes_read_only_keeps_nothing_alive(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    stack = Stack(environment, say=told.append)
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Stack, "_end_orphans", lambda self: None)
    stack._stop()
    assert told == ["Stopped; no process is left."]


def test_a_stop_asked_for_while_it_starts_starts_nothing_more(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = DirectoryLock(environment.data_dir)
    lock.take()
    waits: list[float] = []

    def wait(seconds: float) -> signal.Signals:
        waits.append(seconds)
        return signal.SIGTERM

    monkeypatch.setattr(module, "wait_for_signal", wait)
    stack = Stack(environment, say=lambda line: None)
    web = Plan(environment, held=lock.descriptor).web(1)
    with pytest.raises(Stopped, match="SIGTERM"):
        stack._start_stage([web])
    assert waits == [0]
    assert stack.processes == []
    assert not web.lives
    lock.release()
