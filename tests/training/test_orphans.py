"""Processes that outlived their attempt: who is ended, and who is a stranger."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from registry import clock
from registry.models import Attempt, Incident, Node, Task
from registry.states import State
from tests.conftest import Clock, make_node
from training import marks, orphans
from training.processes import boot_id, start_ticks

pytestmark = pytest.mark.django_db

SLEEP = "import time; time.sleep(600)"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that leads a group of its own, with a mark if one is given."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(mark: int = 0, text: str = SLEEP) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", text],
            start_new_session=True,
            preexec_fn=(lambda: marks.put(mark)) if mark else None,
            stdout=subprocess.PIPE,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def placed(submit: Callable[..., Task], node: Node) -> Callable[..., Attempt]:
    """Makes the running attempt of a task, with the process that is given."""

    def placed(pid: int | None = None, **changes: Any) -> Attempt:
        task = submit()
        task.assign(node)
        task.start(node)
        if pid is not None:
            facts = {"pid": pid, "pid_started": start_ticks(pid), "boot": boot_id()}
            task.attempts.update(**{**facts, **changes})
        return task.attempts.get()

    return placed


def mark_of(attempt: Attempt) -> int:
    return orphans.mark_of(attempt, attempt.node.name)


def test_what_an_earlier_life_left_is_killed(
    placed: Callable[..., Attempt], start: Start
) -> None:
    process = start()
    assert orphans.is_gone(placed(process.pid))
    assert process.wait(5) == -9


def test_a_process_that_only_has_the_same_pid_is_left_alone(
    placed: Callable[..., Attempt], start: Start
) -> None:
    process = start()
    attempt = placed(process.pid, pid_started=1)
    assert orphans.is_gone(attempt)
    assert process.poll() is None


def test_what_another_host_or_boot_runs_is_gone_once_its_lease_is_over(
    time: Clock, placed: Callable[..., Attempt], start: Start
) -> None:
    process = start()
    attempt = placed(process.pid, boot="another boot")
    time.forward(seconds=29)
    assert not orphans.is_gone(attempt)
    time.forward(seconds=1)
    assert orphans.is_gone(attempt)
    assert process.poll() is None


def test_an_attempt_whose_process_was_never_recorded_has_not_begun(
    placed: Callable[..., Attempt],
) -> None:
    assert orphans.is_gone(placed())


def test_descendants_that_left_the_dead_leaders_group_are_found_by_their_mark(
    placed: Callable[..., Attempt], start: Start
) -> None:
    attempt = placed()
    leader = start(
        mark_of(attempt),
        textwrap.dedent(
            f"""
            import subprocess, sys
            child = subprocess.Popen(
                [sys.executable, "-c", {SLEEP!r}], start_new_session=True, env={{}},
                stdout=subprocess.DEVNULL,
            )
            print(child.pid, flush=True)
            """
        ),
    )
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    Attempt.objects.update(
        pid=leader.pid, pid_started=start_ticks(leader.pid) or 1, boot=boot_id()
    )
    leader.wait(10)
    attempt.refresh_from_db()
    assert start_ticks(child) is not None
    assert orphans.is_gone(attempt)
    assert start_ticks(child) is None


def test_a_new_life_on_the_same_host_ends_the_jobs_before_it_gives_them_back(
    placed: Callable[..., Attempt], start: Start, node: Node
) -> None:
    process = start()
    attempt = placed(process.pid)
    seen: list[tuple[str, bool]] = []

    def is_gone(one: Attempt) -> bool:
        gone = orphans.is_gone(one)
        seen.append((Task.objects.get().state, start_ticks(process.pid) is None))
        return gone

    make_node(node.name, is_gone=is_gone)
    assert seen == [(State.RUNNING, True)]
    assert Task.objects.get(pk=attempt.task_id).state == State.PENDING


def test_a_second_worker_of_the_name_elsewhere_waits_until_the_first_is_silent(
    placed: Callable[..., Attempt], node: Node
) -> None:
    attempt = placed(os.getpid(), boot="another host's boot")
    make_node(node.name, is_gone=orphans.is_gone)
    task = Task.objects.get(pk=attempt.task_id)
    assert (task.state, task.attempt) == (State.RUNNING, 1)


def test_the_sweep_ends_what_is_over_and_tells_of_it(
    placed: Callable[..., Attempt], start: Start, node: Node
) -> None:
    live, over = placed(), placed()
    kept, left = start(mark_of(live)), start(mark_of(over))
    over.task.release("node_lost", "in the test")

    assert orphans.end_orphans(node.name) == 1
    assert left.wait(5) == -9
    assert kept.poll() is None
    incident = Incident.objects.get()
    assert (incident.kind, incident.node) == ("orphan", node.name)
    assert incident.summary == {
        "ended": 1,
        "left": 0,
        "task": over.task_id,
        "attempt": 1,
    }
    event = over.task.events.last()
    assert event is not None
    assert event.verb == "orphan"
    assert str(left.pid) in event.message
    assert orphans.end_orphans(node.name) == 0


def test_the_sweep_leaves_other_nodes_and_installations_alone(
    placed: Callable[..., Attempt], start: Start, node: Node, settings: Any
) -> None:
    attempt = placed()
    process = start(mark_of(attempt))
    attempt.task.release("node_lost", "in the test")
    assert orphans.end_orphans("cpu@other") == 0
    settings.DATA_DIR = settings.DATA_DIR / "elsewhere"
    assert orphans.end_orphans(node.name) == 0
    assert process.poll() is None


def test_what_no_row_knows_any_more_is_ended_too(
    placed: Callable[..., Attempt], start: Start, node: Node
) -> None:
    attempt = placed()
    process = start(mark_of(attempt))
    attempt.task.fail("error", "in the test")
    Attempt.objects.update(finished_at=clock.now() - 2 * orphans.LATELY)
    assert orphans.end_orphans(node.name) == 1
    assert process.wait(5) == -9
    assert "an attempt that is gone" in Incident.objects.get().message
