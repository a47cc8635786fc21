"""What becomes of an attempt, with real job processes and the fake recipe."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from registry import publish
from registry.models import ModelVersion, Task
from registry.states import State
from tests.training.conftest import log_of
from training import cores, ending, marks, orphans, preparation
from training.launcher import Job, Launcher
from training.lease import LEASE
from training.processes import group_members, start_ticks
from training.reports import Reports

pytestmark = pytest.mark.django_db

Train = Callable[..., Task]
Supervise = Callable[..., Any]


def fresh(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def pid_of(task: Task) -> int:
    pid = task.attempts.get(number=task.attempt).pid
    assert pid is not None
    return pid


def test_a_good_training_completes_with_one_model(
    train: Train, supervise: Supervise
) -> None:
    task = train(steps=3, seed=7)
    supervise(task)
    task = fresh(task)
    assert task.state == State.COMPLETED
    version = ModelVersion.objects.get(task=task)
    assert task.result["model"] == "fake"
    assert task.result["version"] == version.number == 1
    assert version.params["seed"] == 7
    assert [e.verb for e in task.events.all()] == [
        "submit",
        "assign",
        "start",
        "complete",
    ]


def test_its_metrics_stand_once_a_step_and_progress_is_kept(
    train: Train, supervise: Supervise
) -> None:
    task = train(steps=3)
    supervise(task)
    task = fresh(task)
    losses = task.points.filter(name="loss").values_list("step", "value")
    assert list(losses) == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert task.metrics["done"] == 1.0
    assert task.progress["steps"] == 3


def test_the_job_knows_neither_django_nor_secrets(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = train(end="django")
    supervise(task)
    assert fresh(task).state == State.COMPLETED, log_of(task)


@pytest.mark.parametrize(
    ("end", "reason", "words"),
    [
        ("error", "error", "RuntimeError"),
        ("bad_data", "bad_data", "row 7, column affinity: is not a number"),
        ("memory", "out_of_memory", "memory"),
        ("disk", "disk_full", "disk is full"),
        ("no_model", "error", ""),
    ],
)
def test_a_failure_has_its_reason_and_a_sentence_and_leaves_no_model(
    train: Train, supervise: Supervise, end: str, reason: str, words: str
) -> None:
    task = train(end=end)
    supervise(task)
    task = fresh(task)
    assert (task.state, task.reason) == (State.FAILED, reason)
    assert words in task.message
    assert task.message.strip()
    assert task.hint
    assert not ModelVersion.objects.exists()


@pytest.mark.parametrize("end", ["kill", "exit", "silent"])
def test_a_job_that_dies_without_a_word_is_tried_again(
    train: Train, supervise: Supervise, end: str
) -> None:
    task = train(end=end)
    supervise(task)
    task = fresh(task)
    assert (task.state, task.reason, task.retries) == (State.PENDING, "killed", 1)
    assert task.not_before is not None
    attempt = task.attempts.get()
    assert attempt.signal == (9 if end == "kill" else None)
    assert attempt.exit_code == {"kill": None, "exit": 3, "silent": 0}[end]


def test_a_killed_job_goes_on_from_its_checkpoint(
    train: Train, supervise: Supervise, node: Any
) -> None:
    task = train(steps=4, end="kill")
    supervise(task)
    task = fresh(task)
    task.params["params"]["end"] = "complete"
    Task.objects.filter(pk=task.pk).update(params=task.params)
    task.assign(node)
    supervise(task)
    assert fresh(task).state == State.COMPLETED
    assert "from step 4" in log_of(task)
    assert task.points.filter(name="loss").count() == 4


def test_cancel_stops_the_job_at_its_next_step(
    train: Train, supervise: Supervise
) -> None:
    task = train(steps=10_000, pause=0.01)

    def cancel() -> bool:
        row = fresh(task)
        if row.cancel_requested_at is None and row.points.exists():
            row.request_cancel()
            return True
        return False

    supervisor = supervise(task, cancel)
    row = fresh(task)
    assert row.state == State.CANCELLED
    assert row.reason == "cancelled_by_user"
    assert supervisor._rungs == ["ask_to_stop"]
    assert group_members(pid_of(task)) == []
    assert not ModelVersion.objects.exists()


def test_cancel_ends_a_deaf_job_and_its_children_by_force(
    train: Train, supervise: Supervise
) -> None:
    task = train(steps=10_000, pause=0.01, deaf=True, child=True)

    def cancel() -> bool:
        row = fresh(task)
        if row.cancel_requested_at is None and row.points.exists():
            row.request_cancel()
            return True
        return False

    supervisor = supervise(task, cancel)
    assert fresh(task).state == State.CANCELLED
    assert supervisor._rungs == ["ask_to_stop", "terminate", "kill"]
    assert group_members(pid_of(task)) == []
    verbs = [event.verb for event in task.events.all()]
    assert verbs[-5:] == [
        "request_cancel",
        "ask_to_stop",
        "terminate",
        "kill",
        "cancel",
    ]


@pytest.mark.parametrize("end", ["complete", "error", "kill"])
def test_what_a_job_leaves_in_its_group_is_ended_however_it_ends(
    train: Train, supervise: Supervise, end: str
) -> None:
    task = train(child=True, end=end)
    supervise(task)
    assert group_members(pid_of(task)) == []


def test_a_wish_is_seen_at_the_next_beat_when_the_broadcast_was_lost(
    train: Train, supervise: Supervise
) -> None:
    task = train(steps=10_000, pause=0.01)

    def cancel_without_broadcast() -> None:
        row = fresh(task)
        if row.cancel_requested_at is None and row.points.exists():
            row.request_cancel()

    supervise(task, cancel_without_broadcast)
    assert fresh(task).state == State.CANCELLED


def test_pause_lets_go_at_a_checkpoint_and_resume_goes_on_there(
    train: Train, supervise: Supervise, node: Any
) -> None:
    task = train(steps=30, pause=0.02)

    def pause() -> bool:
        row = fresh(task)
        if row.pause_requested_at is None and row.points.filter(step__gte=1).exists():
            row.request_pause()
            return True
        return False

    supervise(task, pause)
    row = fresh(task)
    assert row.state == State.PAUSED
    assert row.attempts.get().finished_at is not None
    row.resume()
    row.assign(node)
    supervise(row)
    assert fresh(task).state == State.COMPLETED
    assert log_of(task).count("from step 0") == 1
    steps = list(task.points.filter(name="loss").values_list("step", flat=True))
    assert steps == list(range(30))


def test_a_stopping_worker_gives_the_attempt_back(
    train: Train, supervise: Supervise
) -> None:
    task = train(steps=10_000, pause=0.01)
    supervise(task, is_stopping=lambda: fresh(task).points.exists())
    row = fresh(task)
    assert (row.state, row.reason) == (State.PENDING, "worker_stopped")
    assert row.retries == 0


def test_a_time_limit_ends_it_with_that_reason(
    train: Train, supervise: Supervise
) -> None:
    task = train({"time_limit": 1}, steps=10_000, pause=0.01)
    supervise(task)
    row = fresh(task)
    assert (row.state, row.reason) == (State.FAILED, "time_limit")


def test_a_second_delivery_runs_nothing(train: Train, supervise: Supervise) -> None:
    task = train(steps=2)
    again = fresh(task)
    supervise(task)
    before = fresh(task).events.count()
    supervise(again)
    assert fresh(task).events.count() == before
    assert fresh(task).attempts.count() == 1


def test_an_attempt_that_was_taken_away_ends_its_job_and_writes_nothing(
    train: Train, supervise: Supervise, node: Any
) -> None:
    task = train(steps=10_000, pause=0.01)

    def take_away() -> bool:
        row = fresh(task)
        if row.attempt == 1 and row.points.exists() and row.state == State.RUNNING:
            row.release("node_lost", "taken in the test")
            row.assign(node)
            return True
        return False

    supervise(task, take_away)
    row = fresh(task)
    assert (row.state, row.attempt) == (State.ASSIGNED, 2)
    assert group_members(row.attempts.get(number=1).pid or 0) == []
    assert [event.verb for event in row.events.all()][-1] == "assign"


def test_a_database_that_is_away_for_a_moment_costs_nothing(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = train(steps=40, pause=0.02)
    beat, failures = Task.beat, iter(range(3))

    def sometimes(self: Task, **changes: Any) -> None:
        if next(failures, None) is not None:
            raise OperationalError("gone")
        beat(self, **changes)

    monkeypatch.setattr(Task, "beat", sometimes)
    supervise(task, lambda: True)
    row = fresh(task)
    assert row.state == State.COMPLETED
    assert row.points.filter(name="loss").count() == 40


def test_without_a_beat_for_its_lease_the_supervisor_ends_the_job_and_says_nothing(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = train(steps=10_000, pause=0.01)
    now, beat = [0.0], Task.beat

    def away(self: Task, **changes: Any) -> None:
        if not self.attempts.get().pid:
            return beat(self, **changes)
        now[0] += 10.0
        raise OperationalError("gone")

    def monotonic() -> float:
        now[0] += 0.05
        return now[0]

    monkeypatch.setattr(Task, "beat", away)
    supervisor = supervise(task, lambda: True, monotonic=monotonic)
    assert supervisor.wish == "abandon"
    row = fresh(task)
    assert row.state == State.RUNNING
    assert group_members(pid_of(row)) == []


def test_a_fault_of_the_supervisor_itself_ends_the_job_and_the_task(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = train(steps=10_000, pause=0.01)

    def break_off(self: Reports, frame: Any) -> None:
        raise ValueError("what nobody foresaw")

    monkeypatch.setattr(Reports, "take", break_off)
    supervise(task)
    row = fresh(task)
    assert (row.state, row.reason) == (State.FAILED, "error")
    assert "what nobody foresaw" in row.message
    assert group_members(pid_of(row)) == []


def test_a_final_verb_is_insisted_on_while_the_database_is_away(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = train(steps=1)
    complete, failures = Task.complete, iter(range(2))

    def sometimes(self: Task, *args: Any, **facts: Any) -> None:
        if next(failures, None) is not None:
            raise OperationalError("gone")
        complete(self, *args, **facts)

    monkeypatch.setattr(Task, "complete", sometimes)
    monkeypatch.setattr(ending.time, "sleep", lambda seconds: None)
    supervise(task)
    assert fresh(task).state == State.COMPLETED
    assert ModelVersion.objects.count() == 1


def test_a_moment_without_the_database_between_claim_and_launch_costs_nothing(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = train(steps=1)
    prepare, failures = preparation.prepare, iter(range(2))

    def sometimes(*args: Any) -> Any:
        if next(failures, None) is not None:
            raise OperationalError("gone")
        return prepare(*args)

    monkeypatch.setattr(preparation, "prepare", sometimes)
    monkeypatch.setattr(ending.time, "sleep", lambda seconds: None)
    supervise(task)
    assert fresh(task).state == State.COMPLETED


def test_a_database_that_stays_away_before_the_launch_costs_no_retry(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = train(steps=1)

    def gone(*args: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(preparation, "prepare", gone)
    monkeypatch.setattr(ending.time, "sleep", lambda seconds: None)
    supervise(task)
    row = fresh(task)
    assert (row.state, row.reason, row.retries) == (State.PENDING, "node_lost", 0)


@pytest.mark.parametrize("times", [1, 3])
def test_a_launcher_that_dies_over_a_launch_costs_nothing(
    train: Train,
    supervise: Supervise,
    launcher: Launcher,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
) -> None:
    launch, failures = Launcher._launch, iter(range(times))
    pauses: list[float] = []
    monkeypatch.setattr(launcher, "_sleep", pauses.append)

    def sometimes(self: Launcher, spec: Any) -> Job:
        job = launch(self, spec)
        if next(failures, None) is not None:
            raise EOFError("unexpected EOF")  # it was forked, but nobody heard of it
        return job

    monkeypatch.setattr(Launcher, "_launch", sometimes)
    task = train(steps=2)
    supervise(task)
    assert fresh(task).state == State.COMPLETED
    assert log_of(task).count("from step") == 1
    assert pauses == [0.0, 0.5, 2.0][:times]


def test_a_task_whose_launchers_all_died_is_tried_again_later(
    train: Train,
    supervise: Supervise,
    launcher: Launcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dead(self: Launcher, spec: Any) -> Job:
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(launcher, "_sleep", lambda seconds: None)
    monkeypatch.setattr(Launcher, "_launch", dead)
    task = train(steps=1)
    supervise(task)
    row = fresh(task)
    assert (row.state, row.reason) == (State.PENDING, "node_lost")


def test_a_second_preparation_of_an_attempt_keeps_its_checkpoints(
    train: Train, supervise: Supervise, node: Any
) -> None:
    task = train(steps=4, end="kill")
    supervise(task)
    task = fresh(task)
    task.assign(node)
    for _ in range(2):
        spec = preparation.prepare(task, [])
    assert (Path(spec["checkpoints"]) / "step").read_text() == "4"


def test_completion_and_cancel_at_once_end_cancelled_without_a_model(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = train(steps=1)
    prepare = publish.prepare

    def late_wish(directory: Any) -> Any:
        Task.objects.filter(pk=task.pk).update(cancel_requested_at=task.created_at)
        return prepare(directory)

    monkeypatch.setattr(publish, "prepare", late_wish)
    supervise(task)
    assert fresh(task).state == State.CANCELLED
    assert not ModelVersion.objects.exists()


def test_a_job_begins_only_when_its_process_stands_in_the_row(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = train(steps=1)
    beat, failures = Task.beat, iter(range(5))
    logs: list[str] = []

    def sometimes(self: Task, **changes: Any) -> None:
        if next(failures, None) is not None:
            logs.append(log_of(task))
            raise OperationalError("gone")
        beat(self, **changes)

    monkeypatch.setattr(Task, "beat", sometimes)
    supervise(task)
    assert logs == [""] * 5
    assert "from step 0" in log_of(task)
    assert fresh(task).state == State.COMPLETED


def test_a_job_whose_worker_stood_still_costs_no_retry(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = train(steps=10_000, pause=0.01)
    renew = Job.renew

    def stand_still(self: Job, beaten: float) -> None:
        renew(self, beaten - LEASE)

    monkeypatch.setattr(Job, "renew", stand_still)
    supervise(task)
    row = fresh(task)
    assert (row.state, row.reason, row.retries) == (State.PENDING, "node_lost", 0)


def test_the_recorded_identity_is_the_jobs_own(
    train: Train, supervise: Supervise
) -> None:
    task = train(steps=50, pause=0.01)
    seen: list[tuple[int | None, int | None]] = []

    def compare() -> None:
        attempt = task.attempts.get()
        if attempt.pid and not seen:
            seen.append((attempt.pid_started, start_ticks(attempt.pid)))
            assert attempt.pid != os.getpid()

    supervise(task, compare)
    assert seen
    assert seen[0][0] == seen[0][1]


def faster(times: float) -> Callable[[], float]:
    """A supervisor's own clock, in which that many seconds go by in one."""
    begun = time.monotonic()
    return lambda: begun + times * (time.monotonic() - begun)


def test_a_job_that_stands_still_is_ended_as_hung_and_tried_again(
    train: Train, supervise: Supervise
) -> None:
    task = train(steps=10_000, pause=0.01)
    stopped: list[float] = []

    def stand_still() -> None:
        if not stopped and fresh(task).points.exists():
            os.kill(pid_of(task), signal.SIGSTOP)
            stopped.append(time.monotonic())

    supervisor = supervise(task, stand_still, monotonic=faster(10))
    waited = 10 * (time.monotonic() - stopped[0])
    row = fresh(task)
    assert (row.state, row.reason, row.retries) == (State.PENDING, "hung", 1)
    assert row.message == "Its process gave no sign of life for 15 s."
    assert supervisor._rungs[-1] == "kill"
    assert group_members(pid_of(row)) == []
    assert waited >= 15


def test_a_job_that_answers_or_burns_cpu_is_not_hung(
    train: Train, supervise: Supervise
) -> None:
    task = train(steps=1, pause=2.5)
    supervise(task, monotonic=faster(10))
    assert fresh(task).state == State.COMPLETED


def test_work_without_a_report_for_hang_after_is_ended_though_its_process_answers(
    train: Train, supervise: Supervise
) -> None:
    task = train({"hang_after": 30, "max_retries": 0}, steps=1, pause=60)
    supervise(task, monotonic=faster(20))
    row = fresh(task)
    assert (row.state, row.reason) == (State.FAILED, "hung")
    assert "for 30 s" in row.message


def test_at_the_soft_limit_it_is_warned_once_and_leaves_a_checkpoint(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes: list[bytes] = []
    wish = Job.wish
    monkeypatch.setattr(
        Job, "wish", lambda self, words: (wishes.append(words), wish(self, words))
    )
    limits = {"soft_time_limit": 10, "time_limit": 30}
    task = train(limits, steps=10_000, pause=0.01)
    supervise(task, monotonic=faster(20))
    row = fresh(task)
    assert (row.state, row.reason) == (State.FAILED, "time_limit")
    (event,) = row.events.filter(verb="warn")
    assert event.message == (
        "It has run for its soft time limit of 10 s. It is ended at 30 s."
    )
    assert wishes.count(b"checkpoint") == 1
    assert wishes.index(b"checkpoint") < wishes.index(b"stop")


def test_a_training_that_came_to_its_limit_goes_on_with_a_longer_one(
    train: Train, supervise: Supervise, node: Any
) -> None:
    task = train({"time_limit": 1}, steps=200, pause=0.01)
    supervise(task)
    assert fresh(task).reason == "time_limit"
    Task.objects.update(time_limit=None)
    row = fresh(task)
    row.retry()
    row.assign(node)
    supervise(row)
    assert fresh(task).state == State.COMPLETED
    assert log_of(task).count("from step 0") == 1


def test_what_found_no_room_was_never_begun(
    train: Train, supervise: Supervise, node: Any
) -> None:
    task = train(steps=1)
    supervise(task, refusal=lambda task, gpus: "The disk of cpu@one is full.")
    row = fresh(task)
    assert (row.state, row.reason, row.attempts.get().pid) == (
        "pending",
        "no_room",
        None,
    )
    assert [event.verb for event in row.events.all()] == ["submit", "assign", "release"]


def test_no_room_takes_nothing_away_from_a_run_that_has_begun(
    train: Train, supervise: Supervise, node: Any
) -> None:
    task = train(steps=1)
    late = fresh(task)
    task.start(node)
    supervise(late, refusal=lambda task, gpus: "The disk of cpu@one is full.")
    assert fresh(task).state == State.RUNNING


def test_a_job_is_kept_on_cpus_of_its_own_and_carries_its_mark(
    train: Train, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = max(os.sched_getaffinity(0))
    monkeypatch.setattr(cores, "take", lambda *_, **__: [last])
    task = train(steps=10_000, pause=0.01)
    seen: list[Any] = []

    def look() -> bool:
        if not seen and fresh(task).points.exists():
            pid = pid_of(task)
            seen.append((os.sched_getaffinity(pid), marks.of_process(pid)))
            fresh(task).request_cancel()
            return True
        return False

    supervise(task, look)
    mark = orphans.mark_of(task.attempts.get(), "cpu@one")
    assert seen == [({last}, mark)]
    assert marks.carriers(mark) == []
