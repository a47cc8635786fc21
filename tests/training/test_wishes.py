"""What a job hears while it trains."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from registry.models import Task
from registry.states import State
from tests.training.test_supervisor import fresh, pid_of
from training.launcher import Job, Launcher
from training.wishes import Wishes

pytestmark = pytest.mark.django_db


class Heard:
    """Wishes with the supervisor's end of the pipe, and the answers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.wishes = Wishes(lambda: self.now)
        self.theirs, self.ours = multiprocessing.Pipe(duplex=False)
        self.answers: list[Any] = []
        self.answered = threading.Event()

    def answer(self, frame: Any) -> None:
        self.answers.append(frame)
        self.answered.set()

    def say(self, *words: bytes) -> None:
        """Say the words and wait until all are heard: a check is answered in its turn."""
        self.answered.clear()
        for word in (*words, b"check"):
            self.ours.send_bytes(word)
        assert self.answered.wait(10)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    heard, ended = Heard(), threading.Event()
    monkeypatch.setattr("training.wishes.time.sleep", lambda seconds: None)
    monkeypatch.setattr("training.wishes.os._exit", lambda code: ended.set())
    listen: Callable[[Connection, Any], None] = heard.wishes.listen
    thread = threading.Thread(target=listen, args=(heard.theirs, heard.answer))
    thread.start()
    yield heard
    heard.ours.close()
    thread.join(10)
    heard.theirs.close()
    assert ended.is_set()
    assert heard.wishes.should_stop()


def test_a_wish_to_stop_stands_and_one_for_a_checkpoint_is_met_once(
    heard: Heard,
) -> None:
    heard.say(b"checkpoint")
    assert not heard.wishes.should_stop()
    assert [heard.wishes.should_save() for _ in range(3)] == [True, False, False]
    heard.say(b"stop")
    assert heard.wishes.should_stop()
    assert heard.wishes.should_stop()
    assert not heard.wishes.should_save()


def test_a_wish_that_a_later_version_knows_does_nothing(heard: Heard) -> None:
    heard.say(b"dance")
    assert not heard.wishes.should_stop()
    assert not heard.wishes.should_save()


def test_a_sign_of_life_says_for_how_long_the_training_is_silent(heard: Heard) -> None:
    heard.now = 107.0
    heard.say()
    assert heard.answers[-1] == {"event": "alive", "quiet": 7.0}
    heard.wishes.should_stop()
    heard.say()
    assert heard.answers[-1]["quiet"] == 0.0
    heard.now = 110.0
    heard.wishes.looked()
    heard.say()
    assert heard.answers[-1]["quiet"] == 0.0


def spec(home: Path, **params: Any) -> dict[str, Any]:
    for name in ("checkpoints", "output", "scratch"):
        (home / name).mkdir()
    (home / "log").touch()
    return {
        "task": 1,
        "recipe": "fake",
        "params": params,
        "dataset": "",
        "log": str(home / "log"),
        "device": "cpu",
        "threads": 1,
        "resume": True,
        "environment": {},
        **{name: str(home / name) for name in ("checkpoints", "output", "scratch")},
    }


def test_a_job_answers_a_check_and_ends_by_a_second_signal_only(
    launcher: Launcher, tmp_path: Path
) -> None:
    job = launcher.launch(spec(tmp_path, steps=10_000, pause=0.01))
    frames = until(job, lambda one: one["event"] == "metric")
    assert not [one for one in frames if one["event"] == "alive"]
    job.check()
    assert until(job, lambda one: one["event"] == "alive")[-1]["quiet"] < 60
    job.ask_to_checkpoint()
    job.terminate()
    assert until(job, lambda one: one["event"] == "stopped")
    while not job.is_over:
        job.frames(1)
    assert job.exit_code == 0
    for late in (job.check, job.ask_to_checkpoint, job.ask_to_stop):
        late()
    job.close()


def until(job: Job, found: Callable[[Any], bool]) -> list[Any]:
    frames: list[Any] = []
    for _ in range(1000):
        for one in job.frames(0.1):
            frames.append(one)
            if found(one):
                return frames
    raise AssertionError(frames)


def test_a_job_that_hangs_after_the_wish_is_ended_by_the_signal(
    launcher: Launcher, tmp_path: Path
) -> None:
    job = launcher.launch(spec(tmp_path, steps=2, pause=60))
    until(job, lambda one: one["event"] == "metric")
    job.ask_to_stop()
    job.check()
    until(job, lambda one: one["event"] == "alive")
    job.terminate()
    for _ in range(200):
        if job.is_over:
            break
        job.frames(0.1)
    assert job.signal == signal.SIGTERM
    job.close()


def test_a_signal_to_the_job_alone_releases_its_task_at_a_checkpoint(
    train: Callable[..., Task], supervise: Callable[..., Any], node: Any
) -> None:
    task = train(steps=60, pause=0.01)

    def stop_service() -> None:
        if fresh(task).points.exists() and not done:
            os.kill(pid_of(task), signal.SIGTERM)
            done.append(True)

    done: list[bool] = []
    supervise(task, stop_service)
    row = fresh(task)
    assert (row.state, row.reason, row.retries) == (State.PENDING, "worker_stopped", 0)
    row.assign(node)
    supervise(row)
    assert fresh(task).state == State.COMPLETED
    assert fresh(task).points.filter(name="loss").count() == 60
