"""Both recipes in real job processes, killed with -9 at random: the same model, the same series."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from registry.models import Node, Task
from registry.models.life import MAX_RELEASES
from registry.states import State
from tests.training import affinity_case
from tests.training.tabular_files import MIXED, mixed_rows, write_csv
from tests.training.test_supervisor import fresh, pid_of
from training import checkpoints, preparation

pytestmark = pytest.mark.django_db
# How often each training is killed; for a long trial, with COMPASS_TEST_SEED to draw others.
KILLS = int(os.environ.get("COMPASS_TEST_KILLS", "4"))
SEED = int(os.environ.get("COMPASS_TEST_SEED", "1"))

TABULAR: dict[str, Any] = {"mode": "smoke_test", "batch_size": 8, "dropout": 0.2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tabular": ("tabular", {**TABULAR, "epochs": 30, "patience": None}),
    "tabular, early end": ("tabular", {**TABULAR, "epochs": 60, "patience": 8}),
    "affinity": (
        "affinity",
        {**affinity_case.QUICK, "epochs": 20, "protein_similarity": "alignment"},
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("data")
    table = write_csv(home / "tabular.csv", MIXED, mixed_rows(200))
    pairs = affinity_case.write(home / "affinity.csv", affinity_case.rows())
    return {"tabular": table, "affinity": pairs}


@pytest.fixture
def begun(
    train: Callable[..., Task], data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Task]:
    """Makes an assigned training of that case."""

    def begun(case: str) -> Task:
        recipe, params = CASES[case]
        monkeypatch.setattr(preparation, "dataset_path", lambda name: data[recipe])
        task = train()
        task.params |= {"recipe": recipe, "params": params}
        Task.objects.filter(pk=task.pk).update(params=task.params)
        return fresh(task)

    return begun


def points(task: Task) -> dict[tuple[str, int], float]:
    rows = list(task.points.values_list("name", "step", "value"))
    assert len({row[:2] for row in rows}) == len(rows)
    return {(name, step): value for name, step, value in rows}


class Nemesis:
    """Kills the job at a random moment, or when a stage begins, in each of the first attempts."""

    def __init__(self, task: Task, seconds: float, stages: list[str]) -> None:
        self.task, self.seconds = task, seconds
        self.chance, self.stages = random.Random(SEED), stages
        self.attempt, self.kills = 0, 0

    def __call__(self) -> bool:
        row = fresh(self.task)
        if row.state != State.RUNNING or self.kills >= KILLS + len(self.stages):
            return False
        pid = row.attempts.get(number=row.attempt).pid
        if pid is None:
            return False
        if row.attempt != self.attempt:
            self.attempt = row.attempt
            self.moment = time.monotonic() + self.chance.uniform(0, self.seconds)
        stage = row.progress.get("stage")
        if self.stages:
            if stage == self.stages[0]:
                self.stages.pop(0)
                self.kill(pid)
        elif time.monotonic() > self.moment:
            self.kill(pid)
        return True  # look again, and write what came

    def kill(self, pid: int) -> None:
        self.kills += 1
        self.moment = float("inf")
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(pid, signal.SIGKILL)


def see_through(
    task: Task, node: Node, supervise: Callable[..., Any], nemesis: Any
) -> Task:
    """Attempt after attempt, as dispatch would have it, to the end."""
    for _ in range(100):
        supervise(task, nemesis)
        task = fresh(task)
        if task.state != State.PENDING:
            break
        Task.objects.filter(pk=task.pk).update(not_before=None, retries=0)
        task = fresh(task)
        task.assign(node)
    assert task.state == State.COMPLETED, task.message
    return task


@pytest.mark.parametrize("case", CASES)
def test_a_killed_training_ends_as_one_never_killed(
    case: str,
    begun: Callable[[str], Task],
    supervise: Callable[..., Any],
    node: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = time.monotonic()
    whole = see_through(begun(case), node, supervise, lambda: True)
    seconds = time.monotonic() - began
    task = begun(case)
    nemesis = Nemesis(task, seconds, ["training"])
    killed = see_through(task, node, supervise, nemesis)
    assert killed.result["digest"] == whole.result["digest"]
    assert points(killed) == points(whole)
    assert killed.metrics == whole.metrics
    # The last kill may meet a job that has told its end and is about to exit.
    assert killed.attempts.count() in (nemesis.kills, nemesis.kills + 1)
    assert killed.attempts.count() > 1


def test_a_clean_stop_goes_on_at_the_step_where_it_stopped(
    begun: Callable[[str], Task], supervise: Callable[..., Any], node: Node
) -> None:
    whole = see_through(begun("tabular"), node, supervise, lambda: True)
    task = begun("tabular")
    supervise(task, is_stopping=lambda: fresh(task).progress.get("step", 0) > 30)
    row = fresh(task)
    assert (row.state, row.reason) == (State.PENDING, "worker_stopped")
    home = preparation.store.task_path(task.pk) / "checkpoints" / "1"
    state = checkpoints._read(home / checkpoints.LAST, "cpu")["state"]
    stopped_at = state["position"]["step"]
    row.assign(node)
    done = see_through(row, node, supervise, lambda: True)
    notes = list(done.events.filter(verb="note").values_list("message", flat=True))
    assert [n for n in notes if n.startswith("Goes on")] == [
        f"Goes on from a checkpoint at step {stopped_at} of {20 * 30}."
    ]
    assert done.result["digest"] == whole.result["digest"]
    assert points(done) == points(whole)
    assert done.releases < MAX_RELEASES
    assert pid_of(done)
