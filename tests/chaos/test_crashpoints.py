"""Every named point between two effects ends its process once, and all goes well nevertheless."""

from __future__ import annotations

import ast
import io
import os
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from registry import clock, crashpoints, leftovers, recipes, store
from registry.crashpoints import POINTS
from registry.models import ModelVersion, Task, Upload
from registry.states import FINAL, State
from tests.chaos import check, journal
from tests.chaos.check import Evidence, Findings
from tests.chaos.load import Accepted
from tests.chaos.world import World
from training.processes import start_ticks

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("compass", "registry", "training", "inference")
STEPS = 8


@pytest.fixture
def world(
    transactional_db: None,
    alice: User,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    world = World(tmp_path, alice)
    monkeypatch.setattr(clock, "now", world.time)
    monkeypatch.setenv(journal.VARIABLE, str(world.journal))
    monkeypatch.setitem(recipes.BUILT_IN, "journal", "tests.chaos.recipe:RECIPE")
    recipes._paths.cache_clear()
    yield world
    world.close()
    recipes._paths.cache_clear()
    recipes.get.cache_clear()


def called() -> set[str]:
    """The names at which the code has a crash point."""
    names = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "crashpoint"
            ):
                (name,) = node.args
                assert isinstance(name, ast.Constant), path
                names.add(name.value)
    return names


def test_the_table_names_the_points_of_the_code_and_no_others() -> None:
    assert called() == set(POINTS)


def test_every_point_is_passed_by_a_way_of_life_below() -> None:
    named = [point for points in WAYS.values() for point in points]
    assert sorted(named) == sorted(POINTS)


def test_an_unarmed_point_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashpoints, "_armed", None)
    crashpoints.crashpoint("after-beat")
    monkeypatch.setattr(crashpoints, "_armed", crashpoints.armed("before-send"))
    crashpoints.crashpoint("after-beat")


def test_a_point_ends_the_process_at_the_passing_asked_for_and_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    once = str(tmp_path / "once")
    for _ in range(2):
        armed = crashpoints.armed("after-beat:3", once)
        monkeypatch.setattr(crashpoints, "_armed", armed)
        for passing in range(1, 4):
            crashpoints.crashpoint("after-beat")
            assert ended == ([] if passing < 3 and not Path(once).exists() else [137])
    assert ended == [137]


# Ways of life


def submit(world: World, key: str, **params: Any) -> None:
    """Ask until the answer is known, as a client with an Idempotency-Key may."""
    body = {
        "recipe": "journal",
        "dataset": "bindingdb_sample",
        "lane": "cpu",
        "name": key,
        "model_name": key,
        "params": {"steps": STEPS, "pause": 0.01, **params},
    }

    def post(client: APIClient) -> Any:
        return client.post(
            "/api/v1/training/tasks", body, "json", headers={"Idempotency-Key": key}
        )

    while not world.ask(post):
        continue


def all_final() -> bool:
    tasks = Task.objects.all()
    return tasks.exists() and all(task.state in FINAL for task in tasks)


def wait_until_trained(world: World, tasks: int = 1) -> None:
    """Wait until each of so many trainings has taken a step."""
    deadline = time.monotonic() + 30
    while True:
        entries = journal.read(world.journal)
        if len({one.task for one in entries if one.what == "step"}) == tasks:
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def train(world: World, point: str) -> None:
    world.point = point
    world.start_worker()
    submit(world, "one")
    world.until(all_final)


def lose_two(world: World, point: str) -> None:
    """The worker dies with two trainings; nobody starts it until they are rescued."""
    world.start_worker()
    for key in ("one", "two"):
        submit(world, key, gate=str(world.gate))
    wait_until_trained(world, tasks=2)
    world.stop_worker(signal.SIGKILL)
    world.gate.unlink()
    world.point = point
    world.time.forward(31)
    world.until(lambda: Task.objects.filter(releases=1).count() == 2)
    world.start_worker()
    world.until(all_final)


def come_back(world: World, point: str) -> None:
    """The worker dies with a training and is started again at once."""
    world.start_worker()
    submit(world, "one", gate=str(world.gate))
    wait_until_trained(world)
    world.stop_worker(signal.SIGKILL)
    world.gate.unlink()
    world.point = point
    world.start_worker()
    world.until(all_final)


def stop_in_good_order(world: World, point: str) -> None:
    world.point = point
    world.start_worker()
    submit(world, "one", gate=str(world.gate))
    wait_until_trained(world)
    assert world.stop_worker() == crashpoints.CODE
    world.gate.unlink()
    world.start_worker()
    world.until(all_final)


def upload(world: World, point: str) -> None:
    world.point = point
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", "x,y\n1,2\n")

    def post(client: APIClient) -> Any:
        file = io.BytesIO(packed.getvalue())
        file.name = "a.zip"
        return client.post("/api/v1/uploads", {"file": file}, "multipart")

    while not world.ask(post):
        continue
    world.until(lambda: Upload.objects.filter(state=Upload.State.SEALED).exists())


WAYS: dict[Callable[[World, str], None], list[str]] = {
    train: [
        "accepted-before-dispatch",
        "assigned-before-commit",
        "assigned-before-send",
        "before-send",
        "after-send",
        "taken-before-claim",
        "claimed-before-launch",
        "launched-before-recorded",
        "after-beat",
        "over-before-final-verb",
        "published-before-complete",
        "registered-before-complete",
        "ended-before-clean-up",
        "cleaned-before-dispatch",
    ],
    lose_two: ["rescued-one-before-next", "rescued-before-dispatch"],
    come_back: ["registered-before-give-back", "given-back-before-joining"],
    stop_in_good_order: ["left-before-release"],
    upload: ["kept-before-commit", "unpacked-before-sealed", "sealed-before-commit"],
}
CASES = [(way, point) for way, points in WAYS.items() for point in points]


@pytest.mark.parametrize(
    ("way", "point"), CASES, ids=[f"{way.__name__}-{point}" for way, point in CASES]
)
def test_a_death_between_two_effects_loses_nothing_and_doubles_nothing(
    way: Callable[[World, str], None], point: str, world: World
) -> None:
    way(world, point)
    world.until(world.once.exists)  # some points come after the task's end
    if way is not upload:
        assert world.stop_worker() in (0, crashpoints.CODE)
    found = problems(world)
    assert not found, found


def problems(world: World) -> list[str]:
    """What rows, journal, store and machine have to say against it."""
    found, accepted, evidence = Findings(), [], {}
    for task in Task.objects.all():
        accepted.append(Accepted(task.pk, task.name, STEPS))
        row = {"state": task.state, "reason": task.reason, "attempt": task.attempt}
        attempts = list(task.attempts.values("number", "finished_at"))
        versions = ModelVersion.objects.filter(task=task).count()
        evidence[task.pk] = Evidence(
            {**row, "message": task.message}, attempts, versions
        )
        if task.state != State.COMPLETED:
            why = f"{task.reason}: {task.message}"
            found.lost.append(f"{task.name} is {task.state} ({why})")
        if Task.objects.filter(name=task.name).count() > 1:
            found.doubled.append(task.name)
    entries = journal.read(world.journal)
    check.judge(accepted, evidence, entries, found)
    found.leaked += [
        f"{task} holds {task.resources} of {task.node}"
        for task in Task.objects.placed().filter(node__isnull=False)
    ]
    found.leaked += [
        f"process {pid}"
        for pid in {entry.pid for entry in entries}
        if start_ticks(pid) is not None
    ]
    world.time.set(time.time() + 3 * 3600)
    leftovers.remove()
    files = store.root()
    found.leaked += map(str, files.glob("aside/*"))
    found.leaked += map(str, files.glob("tasks/*/attempt-*"))
    objects = [path for path in files.glob("objects/*/*") if path.is_file()]
    if len(objects) != Upload.objects.filter(state=Upload.State.SEALED).count():
        found.leaked += map(str, objects)
    return found.all
