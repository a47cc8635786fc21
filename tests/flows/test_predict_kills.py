"""`kill -9` of the inference worker while it is asked: the answer still comes."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from tests.flows.conftest import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def model(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model that has answered once."""
    path = tmp_path_factory.mktemp("data") / "line.csv"
    rows = [(n % 20 / 20, n // 20 / 20) for n in range(400)]
    path.write_text("a,b,y\n" + "".join(f"{a},{b},{2 * a - b}\n" for a, b in rows))
    params = {"mode": "smoke_test"}
    task = stack.post(
        "/training/tasks",
        recipe="tabular", dataset=stack.upload(path), model_name="line", params=params,
    )["id"]  # fmt: skip
    stack.until(
        lambda: stack.get(f"/tasks/{task}")["state"] == "completed", "it is trained"
    )
    assert "value" in ask(stack)["outputs"][0]
    return "line"


def ask(stack: Stack) -> Any:
    inputs = [{"a": 0.1, "b": 0.2}]
    return stack.post("/inference/predict", model="line", inputs=inputs)


def test_a_prediction_survives_the_death_of_its_worker(
    stack: Stack, model: str
) -> None:
    before = ask(stack)["outputs"]
    stack.process("inference@").kill()
    began = time.monotonic()
    assert ask(stack)["outputs"] == before
    took = time.monotonic() - began
    assert took < 10, f"{took:.2f} s"


def test_a_batch_survives_the_death_of_its_worker(stack: Stack, model: str) -> None:
    items = [{"a": n / 1000, "b": 0.2} for n in range(1000)]
    body: dict[str, Any] = {"model": model, "inputs": items}
    death = threading.Timer(0.05, stack.process("inference@").kill)
    death.start()
    answer = stack.http.post(
        "/api/v1/inference/batch",
        json=body, headers={"Prefer": "wait=30"}, timeout=60,
    )  # fmt: skip
    death.join()
    assert answer.status_code in (200, 202), answer.text
    task = answer.json().get("task_id") or answer.json()["id"]
    stack.until(
        lambda: stack.get(f"/tasks/{task}")["state"] == "completed",
        "it is completed",
        90,
    )
    lines = stack.http.get(f"/api/v1/tasks/{task}/files/results.jsonl").text.split("\n")
    rows = [json.loads(line) for line in lines if line]
    assert [row["input"] for row in rows] == items
    assert all(row["success"] for row in rows)
