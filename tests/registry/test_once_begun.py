"""What has side effects is not run again unless its submitter asked; and what use counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from registry.models import Node, Task, Use
from registry.models.use import HALF_LIFE
from registry.resources import GPU_WEIGHT
from registry.states import State
from tests.conftest import Clock
from tests.registry.lives import again, bring

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]


@pytest.mark.parametrize("reason", ["node_lost", "worker_stopped", "drained"])
def test_a_script_that_has_begun_fails_when_its_place_is_lost(
    reason: str, node: Node, submit: Submit
) -> None:
    task = bring(submit(kind="script"), State.RUNNING, node)
    task.release(reason, "Gone.")
    assert (task.state, task.reason) == (State.FAILED, reason)
    assert "not run again" in task.message


def test_a_script_that_has_not_begun_is_placed_anew(node: Node, submit: Submit) -> None:
    task = bring(submit(kind="script"), State.ASSIGNED, node)
    task.release("node_lost", "Gone.")
    assert task.state == State.PENDING


def test_a_script_whose_submitter_asked_for_retries_runs_again(
    node: Node, submit: Submit
) -> None:
    task = bring(submit(kind="script", max_retries=1), State.RUNNING, node)
    task.release("node_lost", "Gone.")
    assert (task.state, task.retries) == (State.PENDING, 0)
    bring_on(task, node)
    task.fail("exit_status", "It ended with exit code 1.")
    assert (task.state, task.retries) == (State.PENDING, 1)
    bring_on(task, node)
    task.fail("exit_status", "It ended with exit code 1.")
    assert task.state == State.FAILED


def bring_on(task: Task, node: Node) -> None:
    task.assign(node)
    task.start(node)


@pytest.mark.parametrize("end", ["complete", "fail", "cancel", "release", "pause"])
def test_every_end_of_a_run_is_counted_once_for_its_owner(
    end: str, node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(cpus=2, gpus=1), State.RUNNING, node)
    time.forward(seconds=10)
    words: tuple[Any, ...] = {"complete": ({},), "fail": ("error", "x")}.get(end, ())
    if end == "release":
        words = ("node_lost", "x")
    getattr(task, end)(*words)
    used = Use.objects.get(owner=task.owner)
    assert used.seconds == pytest.approx(10 * (2 + GPU_WEIGHT))


def test_use_halves_and_a_clock_that_jumps_back_adds_nothing(
    node: Node, submit: Submit, time: Clock
) -> None:
    moment = time()
    used = Use(owner_id=1, seconds=80.0, as_of=moment)
    assert used.at(moment + HALF_LIFE) == pytest.approx(40.0)
    assert used.at(moment - HALF_LIFE) == pytest.approx(80.0)
    task = bring(submit(), State.RUNNING, node)
    time.forward(seconds=-100)
    task.complete({})
    assert Use.objects.get().seconds == 0.0


def test_what_was_only_placed_used_nothing(
    node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(), State.ASSIGNED, node)
    time.forward(seconds=10)
    task.release("node_lost", "x")
    assert not Use.objects.exists()


def test_the_usual_duration_is_the_95th_percentile_of_ones_own_runs(
    node: Node, submit: Submit, bob: Any, time: Clock
) -> None:
    for seconds in range(1, 26):
        task = bring(submit(template="t"), State.RUNNING, node)
        time.forward(seconds=seconds)
        task.complete({})
    assert again(submit(template="t")).expected == 24
    assert submit(template="u").expected is None
    assert submit(template="t", owner=bob).expected is None


def test_a_wish_to_move_is_for_what_runs_and_gone_once_it_has(
    node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(), State.RUNNING, node)
    task.request_release()
    assert task.release_requested_at == time()
    task.release("drained", "x")
    assert (task.state, task.release_requested_at) == (State.PENDING, None)
