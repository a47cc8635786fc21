"""Each attempt has checkpoints of its own, so that a job that was cut off disturbs nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from registry.models import Node, Task
from training.checkpoints import LAST, PREVIOUS, Checkpoints
from training.preparation import LOG, own_checkpoints, own_log

pytestmark = pytest.mark.django_db


def at(directory: Path) -> Checkpoints:
    return Checkpoints(directory, "one", print)


def step_of(directory: Path) -> int | None:
    found = at(directory).load()
    return None if found is None else found["step"]


def save(directory: Path, step: int) -> None:
    at(directory).save({"step": step, "weights": torch.zeros(3)})


@pytest.fixture
def again(
    submit: Callable[..., Task], node: Node, tmp_path: Path
) -> Callable[..., Path]:
    """Ends the attempt, begins the next, and gives its directory."""
    task = submit()

    def again(reason: str = "node_lost") -> Path:
        if task.attempt:
            task.release(reason, "in the test")
        task.assign(node)
        return own_checkpoints(task, tmp_path / "checkpoints")

    return again


@pytest.mark.parametrize("reason", ["node_lost", "worker_stopped"])
def test_the_next_attempt_goes_on_from_all_that_the_last_one_left(
    again: Callable[..., Path], reason: str
) -> None:
    first = again()
    assert step_of(first) is None
    save(first, 1)
    save(first, 2)
    save(first / "alignment", 7)
    second = again(reason)
    assert step_of(second) == 2
    assert step_of(second / "alignment") == 7
    assert {path.name for path in second.iterdir()} == {LAST, PREVIOUS, "alignment"}
    assert [path.name for path in second.parent.iterdir()] == ["2"]


def test_what_a_zombie_writes_later_is_seen_by_nobody(
    again: Callable[..., Path],
) -> None:
    first = again()
    save(first, 1)
    (first / "own").write_text("1")
    (first / "last.ckpt.1-ab.part").write_bytes(b"half")
    with (first / "own").open("a") as zombie:
        second = again()
        zombie.write("00")
    save(first, 100)
    save(first, 101)
    assert {path.name for path in second.iterdir()} == {LAST, "own"}
    assert step_of(second) == 1
    assert (second / "own").read_text() == "1"
    save(second, 2)
    assert step_of(again("worker_stopped")) == 2


def test_a_preparation_that_was_cut_off_loses_no_step(
    again: Callable[..., Path],
) -> None:
    first = again()
    save(first, 1)
    cut = first.parent / "2.part"
    cut.mkdir()
    (cut / PREVIOUS).write_bytes(b"the older one")
    assert step_of(again()) == 1


def test_an_attempt_without_a_checkpoint_hands_on_what_stood_before_it(
    again: Callable[..., Path],
) -> None:
    save(again(), 1)
    assert step_of(again("drained")) == 1
    second = again("drained")
    for path in second.iterdir():
        path.unlink()
    save(second.parent / "1", 5)
    assert step_of(again()) == 5


@pytest.mark.parametrize(
    ("reason", "is_seen"), [("node_lost", False), ("drained", True)]
)
def test_a_job_whose_node_was_lost_writes_no_more_into_the_tasks_log(
    submit: Callable[..., Task],
    node: Node,
    tmp_path: Path,
    reason: str,
    is_seen: bool,
) -> None:
    task = submit()
    task.assign(node)
    log = own_log(task, tmp_path / LOG)
    with log.open("a") as zombie:
        zombie.write("first\n")
        zombie.flush()
        task.release(reason, "in the test")
        task.assign(node)
        assert own_log(task, log).read_text() == "first\n"
        zombie.write("second\n")
    assert ("second" in log.read_text()) is is_seen
