"""`kill -9` of anything during a training: it still completes, once, with one model."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.flows.conftest import Stack

EPOCHS = 600
pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def dataset(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "line.csv"
    chance = random.Random(1)
    rows = [(chance.random(), chance.random()) for _ in range(400)]
    lines = [f"{a},{b},{2 * a - b + chance.random() / 10}" for a, b in rows]
    path.write_text("a,b,y\n" + "\n".join(lines) + "\n")
    return stack.upload(path)


def train(stack: Stack, dataset: str, model_name: str = "line", **params: Any) -> str:
    """A training of a few seconds."""
    task = stack.post(
        "/training/tasks",
        recipe="tabular",
        dataset=dataset,
        model_name=model_name,
        params={"mode": "smoke_test", "epochs": EPOCHS, "patience": None, **params},
    )
    return str(task["id"])


def wait_for_steps(stack: Stack, task: str) -> None:
    stack.until(
        lambda: (stack.get(f"/tasks/{task}")["progress"].get("epoch") or 0) >= 20,
        "it trains",
    )


def job_of(stack: Stack, task: str) -> psutil.Process:
    return psutil.Process(stack.get(f"/tasks/{task}/attempts")["results"][-1]["pid"])


VICTIMS: dict[str, Callable[[Stack, str], psutil.Process]] = {
    "cpu worker": lambda stack, task: stack.process("cpu@"),
    "job": job_of,
    "broker": lambda stack, task: stack.process("valkey-server"),
    "web": lambda stack, task: stack.process("granian"),
    "front": lambda stack, task: stack.process("compass.front"),
    "control worker": lambda stack, task: stack.process("control@"),
    "beat": lambda stack, task: stack.process(" beat"),
    "launcher": lambda stack, task: stack.process("forkserver"),
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_training_survives_the_death_of(
    victim: str, stack: Stack, dataset: str
) -> None:
    name = f"after-{victim.replace(' ', '-')}"
    task = train(stack, dataset, model_name=name)
    wait_for_steps(stack, task)
    VICTIMS[victim](stack, task).kill()
    final = stack.until(
        lambda: (
            (row := stack.get(f"/tasks/{task}"))["state"]
            in ("completed", "failed", "cancelled")
            and row
        ),
        "it ends",
        90,
    )
    assert final["state"] == "completed", final
    assert stack.get(f"/models/{name}")["versions"] == 1
    losses = stack.get(f"/tasks/{task}/metrics?name=loss&points=10000")["series"][0]
    steps = [point["step"] for point in losses["points"]]
    assert steps == sorted(set(steps))
    assert len(steps) == EPOCHS


def test_cancel_leaves_no_process_within_a_second(stack: Stack, dataset: str) -> None:
    import time

    task = train(stack, dataset)
    wait_for_steps(stack, task)
    job = job_of(stack, task)
    began = time.monotonic()
    stack.post(f"/tasks/{task}/cancel")
    stack.until(lambda: not job.is_running(), "the job is gone", 5)
    took = time.monotonic() - began
    stack.until(
        lambda: stack.get(f"/tasks/{task}")["state"] == "cancelled",
        "so says the row",
        5,
    )
    assert took < 5, f"{took:.2f} s"
    assert stack.post(f"/tasks/{task}/cancel")["state"] == "cancelled"


def test_a_paused_training_goes_on_to_the_same_weights(
    stack: Stack, dataset: str
) -> None:
    straight, paused = train(stack, dataset, seed=5), train(stack, dataset, seed=5)
    wait_for_steps(stack, paused)
    stack.post(f"/tasks/{paused}/pause")
    stack.until(
        lambda: stack.get(f"/tasks/{paused}")["state"] == "paused", "it pauses", 10
    )
    stack.post(f"/tasks/{paused}/resume")
    digests = [
        stack.until(
            lambda task=task: stack.get(f"/tasks/{task}")["result"], "it ends", 90
        )["digest"]
        for task in (straight, paused)
    ]
    assert digests[0] == digests[1]
