"""What a job hears while it trains."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.models import Task
from registry.states import State
from tests.training.test_supervisor import fresh, pid_of
from training import marks
from training.launcher import Job, Launcher
from training.wishes import Wishes

pytestmark = pytest.mark.django_db


def test_a_wish_to_stop_stands_and_one_for_a_checkpoint_is_met_once() -> None:
    wishes = Wishes()
    wishes.save()
    assert not wishes.should_stop()
    assert [wishes.should_save() for _ in range(3)] == [True, False, False]
    wishes.stop()
    assert [wishes.should_stop() for _ in range(2)] == [True, True]
    assert not wishes.should_save()
    assert not wishes.is_signalled


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
        "leased": time.monotonic(),
        "mark": marks.of_job(str(home), 1, 1),
        "affinity": [],
        **{name: str(home / name) for name in ("checkpoints", "output", "scratch")},
    }


def begun(launcher: Launcher, spec: dict[str, Any]) -> Job:
    job = launcher.launch(spec)
    job.renew(time.monotonic())
    return job


def test_a_job_answers_a_check_and_ends_by_a_second_signal_only(
    launcher: Launcher, tmp_path: Path
) -> None:
    job = begun(launcher, spec(tmp_path, steps=10_000, pause=0.01))
    frames = until(job, lambda one: one["event"] == "metric")
    assert not [one for one in frames if one["event"] == "alive"]
    job.check()
    until(job, lambda one: one["event"] == "alive")
    job.ask_to_checkpoint()
    job.terminate()
    assert until(job, lambda one: one["event"] == "stopped")[-1]["by"] == "signal"
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
    job = begun(launcher, spec(tmp_path, steps=2, pause=60))
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
