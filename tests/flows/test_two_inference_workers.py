"""Two inference workers on one machine, by a setting; each is found, told and asked."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flows.conftest import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("pair")
    stack = Stack(directory, COMPASS_INFERENCE_WORKERS="2", COMPASS_NODE_NAME="here")
    yield stack
    stack.stop()
    stack.http.close()


@pytest.fixture(scope="module")
def model(pair: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "line.csv"
    rows = [(n % 20 / 20, n // 20 / 20) for n in range(400)]
    path.write_text("a,b,y\n" + "".join(f"{a},{b},{2 * a - b}\n" for a, b in rows))
    task = pair.post(
        "/training/tasks", recipe="tabular", dataset=pair.upload(path),
        model_name="line", params={"mode": "smoke_test"},
    )["id"]  # fmt: skip
    pair.until(
        lambda: pair.get(f"/tasks/{task}")["state"] == "completed", "it is trained"
    )
    return "line"


def states(answer: Any) -> dict[str, str]:
    return {one["worker"]: one["outcome"] for one in answer["workers"]}


def test_both_are_there_each_with_a_line_of_its_own(pair: Stack) -> None:
    names = {one["name"] for one in pair.get("/inference/status")["workers"]}
    assert names == {"inference@here", "inference@here.2"}
    found = pair.get("/services?service_name=inference-line")["results"]
    assert len({one["metadata"]["socket"] for one in found}) == 2


def test_both_are_told_while_the_broker_is_frozen_and_one_answers_for_the_other(
    pair: Stack, model: str
) -> None:
    broker = pair.process("valkey-server")
    broker.send_signal(signal.SIGSTOP)
    try:
        told = pair.post("/inference/preload", model=model, pin=True)
        assert set(states(told).values()) <= {"loaded", "was loaded"}
        told = pair.post("/inference/evict", model=model)
        assert set(states(told).values()) == {"evicted"}
    finally:
        broker.send_signal(signal.SIGCONT)
    pair.process("inference@here.2").kill()
    for _ in range(20):
        answer = pair.post(
            "/inference/predict", model=model, inputs=[{"a": 0.1, "b": 0.2}]
        )
        assert "value" in answer["outputs"][0]
