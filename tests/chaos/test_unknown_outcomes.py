"""The fault that nobody can see through: it happened, but the caller saw a time-out.

Whole lives of tasks run once for each call with an effect (each commit, each statement that is a
transaction of its own, each message), with that call broken: its effect stands and the caller gets
an error, or there is no effect and the caller gets the same error. Every life must end well.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from registry import broker, dispatcher, recipes, scheduler, store
from registry.models import (
    IdempotencyKey,
    ModelVersion,
    Node,
    Task,
    life,  # its back-off
)
from registry.states import State
from tests.chaos import check
from tests.chaos.check import Evidence, Findings
from tests.chaos.lives import STEPS, Died, FakeJob, Faults, Life, post_to
from tests.chaos.load import Accepted
from training import ending, supervisor

REAL = {name: getattr(broker, name) for name in ("send", "revoke", "background")}


def plain(life: Life, job: FakeJob, step: int) -> None:
    """A training from its start to its end."""


def paused(life: Life, job: FakeJob, step: int) -> None:
    if step == 2 and life.once("paused"):
        life.ask(f"/tasks/{life.look()[0].pk}/pause")


def cancelled(life: Life, job: FakeJob, step: int) -> None:
    if step == 2 and life.once("cancelled"):
        assert life.ask(f"/tasks/{life.look()[0].pk}/cancel")


def killed(life: Life, job: FakeJob, step: int) -> None:
    if step == 2 and life.once("killed"):
        job.kill()


def stopped(life: Life, job: FakeJob, step: int) -> None:
    if step == 2 and life.once("stopped"):
        life.is_stopping = True


def lost(life: Life, job: FakeJob, step: int) -> None:
    """The worker's process dies with its job, and comes back after the rescue."""
    if step == 2 and life.once("lost"):
        job.kill()
        life.time.forward(seconds=40)
        raise Died


# `make chaos` breaks every call, the quick tests every third.
EVERY = int(os.environ.get("COMPASS_TEST_EVERY", "3"))
PLOTS = (plain, paused, cancelled, killed, stopped, lost)
ENDS = {cancelled: State.CANCELLED}


@pytest.fixture
def live(
    transactional_db: None, alice: User, time: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Faults]:
    """Runs a life with a fault, holds its end against everything, and forgets it."""
    monkeypatch.setitem(recipes.BUILT_IN, "journal", "tests.chaos.recipe:RECIPE")
    recipes._paths.cache_clear()
    for module in (supervisor, ending):
        monkeypatch.setattr(module, "close_old_connections", lambda: None)
    monkeypatch.setattr(
        ending.time, "sleep", lambda seconds: time.forward(seconds=seconds)
    )
    monkeypatch.setattr(life.random, "uniform", lambda low, high: 1.0)
    for name, function in REAL.items():
        monkeypatch.setattr(broker, name, function)

    def live(plot: Callable[..., None], number: int, *, happens: bool) -> Faults:
        faults = Faults(number, happens=happens)
        one = Life(alice, time, faults, plot)
        post_to(one, faults, monkeypatch)
        monkeypatch.setattr(broker, "call", one.guard)
        monkeypatch.setattr(dispatcher, "nudge", lambda: one.guard(scheduler.dispatch))
        with faults.in_the_database():
            submit(one)
            tasks = one.run()
        told = f"{plot.__name__}, call {number} ({faults.where}, {happens=})"
        assert problems(one, tasks, ENDS.get(plot, State.COMPLETED)) == [], told
        for model in (ModelVersion, Task, Node, IdempotencyKey):
            model.objects.all().delete()
        shutil.rmtree(store.root(), ignore_errors=True)
        return faults

    yield live
    recipes._paths.cache_clear()
    recipes.get.cache_clear()


def submit(life: Life) -> None:
    assert life.ask(
        "/training/tasks",
        key="one",
        recipe="journal",
        dataset="bindingdb_sample",
        name="one",
        model_name="one",
        lane="cpu",
        params={"steps": STEPS},
    )


def problems(life: Life, tasks: list[Task], end: State) -> list[str]:
    found = Findings()
    for task in tasks:
        accepted = Accepted(task.pk, task.name, STEPS)
        accepted.may_be_cancelled = end == State.CANCELLED
        row = {"state": task.state, "reason": task.reason, "attempt": task.attempt}
        attempts = list(task.attempts.values("number", "finished_at"))
        versions = ModelVersion.objects.filter(task=task).count()
        evidence = Evidence({**row, "message": task.message}, attempts, versions)
        check.judge([accepted], {task.pk: evidence}, life.journal, found)
        if task.state != end:
            found.lost.append(f"it is {task.state}: {task.message}")
        events = list(task.events.values_list("state", "attempt"))
        if events[-1] != (task.state, task.attempt):
            found.lost.append(f"its timeline ends with {events[-1]}")
    if len(tasks) != 1:
        found.doubled.append(f"{len(tasks)} tasks for one key")
    return found.all


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)
@pytest.mark.parametrize("happens", [True, False], ids=["it happened", "it did not"])
@pytest.mark.timeout(600)
def test_a_call_that_the_caller_saw_fail_costs_nothing(
    live: Callable[..., Faults], plot: Callable[..., None], happens: bool
) -> None:
    whole = live(plot, 0, happens=happens)
    assert whole.count > whole.turned + 5
    numbers = range(whole.turned + 1, whole.count + 1, EVERY)
    lives = [live(plot, number, happens=happens) for number in numbers]
    # Some looks depend on the time that code took: the last calls are not always there.
    assert sum(bool(one.where) for one in lives) >= len(lives) - 2
