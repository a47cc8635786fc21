"""What a worker process does at its start, at a delivery, at a beat and at its end."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError

from registry import devices, room
from registry.models import Node, Task
from registry.resources import GIB
from registry.states import State
from training import worker
from training.launcher import Launcher
from training.worker import Worker

Train = Callable[..., Task]


class Membership:
    """Stands in for the thread that beats."""

    def __init__(self, node: Node) -> None:
        self.node, self.left, self.beats = node, False, 0

    def leave(self) -> None:
        self.left = True

    def beat(self) -> bool:
        self.beats += 1
        return True


@pytest.fixture
def own(node: Node, launcher: Launcher) -> Worker:
    own = Worker(node.name)
    own._launcher = launcher
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
    monkeypatch.setattr(own, "refusal", lambda task, gpus: "")
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


@pytest.mark.django_db
def test_a_clean_stop_reaches_the_jobs_also_while_the_database_is_away(
    own: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Membership) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(Membership, "leave", away)
    with pytest.raises(OperationalError):
        own.ask_to_stop()
    assert own._stopping.is_set()


class Inventory:
    """GPUs as the test wants them; the one with that index is used by others."""

    def __init__(self) -> None:
        self.used: int | None = None

    def gpus(self) -> list[Any]:
        users = [{"pid": 1, "user": "root", "name": "init", "memory": 3 * GIB}]
        return [
            {
                "index": index,
                "name": "Test",
                "uuid": f"GPU-{index}",
                "memory": 16 * GIB,
                "free": 16 * GIB,
                "processes": users if index == self.used else [],
            }
            for index in range(2)
        ]


@pytest.mark.django_db
def test_a_gpu_that_was_taken_since_the_last_beat_sends_the_task_back_to_wait(
    own: Worker, node: Node, train: Train, time: Any
) -> None:
    inventory = Inventory()
    own._watch = devices.Watch(inventory, set)
    task = train({"gpus": 1})
    task.attempts.update(gpus=[1])
    inventory.used = 1
    own.run(task.pk, 1, lambda: False)
    task.refresh_from_db()
    assert (task.state, task.reason) == (State.PENDING, "no_room")
    assert task.message == (
        "GPU 1 is used by process 1 (root, init, 3.0 GiB) outside Compass."
    )
    assert (task.retries, task.releases) == (0, 0)
    assert task.not_before is not None
    assert task.not_before > time()
    assert own._membership.beats == 1  # type: ignore[union-attr]


@pytest.mark.django_db
def test_a_gpu_that_is_gone_is_named(own: Worker, train: Train) -> None:
    own._watch = devices.Watch(Inventory(), set)
    assert own.refusal(train(), [7]) == f"GPU 7 of {own.name} is gone."
    assert own.refusal(train(), [0, 1]) == ""


@pytest.mark.django_db
def test_too_little_free_memory_or_disk_sends_the_task_back_to_wait(
    own: Worker, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: 2 * GIB)
    task = train({"memory": 3 * GIB})
    assert "needs 3.0 GiB of memory; the host of cpu@one has 2.0" in own.refusal(
        task, []
    )
    assert own.refusal(train({"memory": 2 * GIB}), []) == ""
    monkeypatch.setattr(room, "DISK", 2**60)
    own.run(task.pk, 1, lambda: False)
    task.refresh_from_db()
    assert (task.state, task.reason) == (State.PENDING, "no_room")
    assert task.message.startswith("cpu@one has ")
    assert task.message.endswith(" GiB of disk left.")


@pytest.mark.django_db
def test_a_script_that_found_no_room_has_not_begun_and_waits(
    own: Worker, submit: Callable[..., Task], node: Node, monkeypatch: Any
) -> None:
    monkeypatch.setattr(room, "DISK", 2**60)
    task = submit(kind="script")
    task.assign(node)
    own.run(task.pk, 1, lambda: False)
    task.refresh_from_db()
    assert task.state == State.PENDING


@pytest.mark.django_db
def test_what_the_worker_started_and_no_longer_runs_is_given_back_after_a_minute(
    own: Worker, train: Train, node: Node, time: Any
) -> None:
    lost, elsewhere = train(), train()
    lost.start(node)
    elsewhere.start(node)
    own._deliveries._running.add((elsewhere.pk, 1))
    time.forward(seconds=59)
    own._on_beat(node)
    lost.refresh_from_db()
    assert lost.state == State.RUNNING
    time.forward(seconds=1)
    own._on_beat(node)
    for task in (lost, elsewhere):
        task.refresh_from_db()
    assert (lost.state, lost.reason) == (State.PENDING, "node_lost")
    assert elsewhere.state == State.RUNNING


def test_a_worker_whose_name_was_taken_stops_its_jobs_and_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(worker, "end_process", lambda: ended.append(True))
    own = Worker("cpu@one")
    own._end()
    assert own._stopping.is_set()
    assert ended == [True]
