"""What a worker process does at its start, at a delivery, at a beat and at its end."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from registry import clock
from registry.models import Attempt, Node, Task
from registry.states import State
from training.launcher import Launcher
from training.processes import boot_id, start_ticks
from training.worker import Worker, end_leftovers

Train = Callable[..., Task]


@pytest.fixture
def leftover() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    yield process
    process.kill()
    process.wait()


def note_process(task: Task, pid: int, **changes: Any) -> None:
    facts = {"pid": pid, "pid_started": start_ticks(pid), "boot": boot_id(), **changes}
    task.attempts.update(**facts)


@pytest.mark.django_db
def test_what_an_earlier_life_left_is_killed(
    train: Train, node: Node, leftover: subprocess.Popen[bytes]
) -> None:
    note_process(train(), leftover.pid)
    assert end_leftovers(node.name) == 1
    assert leftover.wait(5) == -9


@pytest.mark.django_db
@pytest.mark.parametrize(
    "changes",
    [{"pid_started": 1}, {"boot": "another boot"}],
    ids=["pid reused", "reboot"],
)
def test_a_process_that_only_has_the_same_pid_is_left_alone(
    train: Train,
    node: Node,
    leftover: subprocess.Popen[bytes],
    changes: dict[str, Any],
) -> None:
    note_process(train(), leftover.pid, **changes)
    assert end_leftovers(node.name) == 0
    assert leftover.poll() is None


@pytest.mark.django_db
def test_an_attempt_that_is_over_or_of_another_node_is_left_alone(
    train: Train, node: Node, leftover: subprocess.Popen[bytes]
) -> None:
    task = train()
    note_process(task, leftover.pid)
    assert end_leftovers("cpu@other") == 0
    Attempt.objects.update(finished_at=clock.now())
    assert end_leftovers(node.name) == 0
    assert leftover.poll() is None


class Membership:
    """Stands in for the thread that beats."""

    def __init__(self, node: Node) -> None:
        self.node, self.left = node, False

    def leave(self) -> None:
        self.left = True


@pytest.fixture
def own(node: Node, launcher: Launcher) -> Worker:
    own = Worker(node.name)
    own._launcher, own._gpus = launcher, []
    own._membership = Membership(node)  # type: ignore[assignment]
    return own


@pytest.mark.django_db
def test_a_delivery_runs_the_attempt_and_later_ones_do_nothing(
    train: Train, own: Worker
) -> None:
    task = train(steps=1)
    for _ in range(3):
        own.run(task.pk, 1, lambda: False)
    task.refresh_from_db()
    assert task.state == State.COMPLETED
    assert task.attempts.count() == 1


@pytest.mark.django_db
def test_a_late_message_of_an_earlier_attempt_does_nothing(
    train: Train, own: Worker, node: Node
) -> None:
    task = train(steps=1)
    task.release("node_lost", "in the test")
    task.assign(node)
    own.run(task.pk, 1, lambda: False)
    task.refresh_from_db()
    assert (task.state, task.attempt) == (State.ASSIGNED, 2)


@pytest.mark.django_db(transaction=True)
def test_what_was_assigned_and_whose_message_was_lost_is_run_at_a_beat(
    train: Train, own: Worker, node: Node
) -> None:
    task = train(steps=1)
    assert own._deliveries.take_untaken(node) == [], "its message may still come"
    old = task.created_at - datetime.timedelta(seconds=6)
    Task.objects.filter(pk=task.pk).update(assigned_at=old)
    for thread in own._deliveries.take_untaken(node):
        thread.join(30)
    task.refresh_from_db()
    assert task.state == State.COMPLETED


@pytest.mark.django_db
def test_a_job_sees_the_gpus_that_it_was_assigned_and_no_other(
    own: Worker, node: Node, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[dict[str, Any]] = []

    def launch(self: Any, spec: dict[str, Any]) -> None:
        specs.append(spec)
        raise RuntimeError("far enough")

    monkeypatch.setattr("training.launcher.Launcher.launch", launch)
    task = train({"gpus": 2})
    task.attempts.update(gpus=[1, 2])
    own.run(task.pk, 1, lambda: False)
    (spec,) = specs
    assert spec["environment"]["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert spec["device"] == "cuda"


@pytest.mark.django_db
def test_a_clean_stop_leaves_the_nodes_and_tells_the_supervisors(own: Worker) -> None:
    own.stop()
    assert own._membership is not None
    assert own._membership.left  # type: ignore[attr-defined]
    assert own._stopping.is_set()
