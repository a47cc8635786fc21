"""Splits and shadows of a real stack, under load, while aliases move and a worker dies."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from tests.flows.conftest import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
ALIAS = "/models/slope/aliases/champion"
BODY = {"model": "slope@champion", "inputs": [{"a": 0.1, "b": 0.2}]}


@pytest.fixture(scope="module")
def versions(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two versions of one model, trained on slopes that differ."""
    for slope in (2, 3):
        path = tmp_path_factory.mktemp("data") / f"slope{slope}.csv"
        rows = [(n % 20 / 20, n // 20 / 20) for n in range(400)]
        lines = "".join(f"{a},{b},{slope * a - b}\n" for a, b in rows)
        path.write_text("a,b,y\n" + lines)
        task = stack.post(
            "/training/tasks",
            recipe="tabular", dataset=stack.upload(path), model_name="slope",
            params={"mode": "smoke_test"},
        )["id"]  # fmt: skip
        stack.until(
            lambda task=task: stack.get(f"/tasks/{task}")["state"] == "completed",
            "it is trained",
        )
    for number in (1, 2):
        assert ask(stack, model=f"slope:{number}")["version"] == number


def ask(stack: Stack, **changes: Any) -> Any:
    return stack.post("/inference/predict", **(BODY | changes))


def many(stack: Stack, count: int, threads: int = 8) -> list[Any]:
    """So many answers, asked by threads at once."""
    found: list[Any] = []

    def work() -> None:
        for _ in range(count // threads):
            found.append(ask(stack))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    return found


def test_a_split_is_answered_and_counted_by_weight(
    stack: Stack, versions: None
) -> None:
    stack.post(ALIAS, version=1, split={"version": 2, "weight": 0.25})
    seen = Counter(str(one["version"]) for one in many(stack, 400))
    assert 60 <= seen["2"] <= 140  # more than four standard deviations around 100

    def counts() -> Any:
        answered = stack.get(ALIAS)["split"]["answered"]
        return {number: one["count"] for number, one in answered.items()}

    stack.until(lambda: counts() == dict(seen), "all are counted", 10)


def test_a_move_under_load_lets_no_answer_be_stale(
    stack: Stack, versions: None
) -> None:
    stop = threading.Event()
    versions_seen: set[int] = set()

    def load() -> None:
        while not stop.is_set():
            versions_seen.add(ask(stack)["version"])

    loads = [threading.Thread(target=load) for _ in range(4)]
    for one in loads:
        one.start()
    try:
        for n in range(20):
            target = 1 + n % 2
            stack.post(ALIAS, version=target)
            assert {ask(stack)["version"] for _ in range(5)} == {target}
            stack.post(ALIAS, version=1, split={"version": 2, "weight": 0.5})
    finally:
        stop.set()
        for one in loads:
            one.join()
    assert versions_seen == {1, 2}


def test_a_shadow_is_compared_and_all_that_was_asked_is_accounted_for(
    stack: Stack, versions: None
) -> None:
    stack.post(ALIAS, version=1, shadow={"version": 2})
    one = ask(stack, model="slope:1")["outputs"][0]["value"]
    two = ask(stack, model="slope:2")["outputs"][0]["value"]
    assert {answer["version"] for answer in many(stack, 400)} == {1}

    def shadow() -> Any:
        found = stack.get(ALIAS)["shadow"]
        return found if found["compared"] + found["dropped"] == 400 else None

    found = stack.until(shadow, "each is compared or dropped", 20)
    assert found["compared"] > 0
    apart = found["outputs"]["value"]["mean_absolute_difference"]
    assert apart == pytest.approx(abs(one - two), rel=1e-3)
    assert found["greatest_difference"] >= apart
    assert found["error_share"] == {"first": 0, "second": 0}


def test_a_worker_that_dies_costs_a_split_no_answer(
    stack: Stack, versions: None
) -> None:
    stack.post(ALIAS, version=1, split={"version": 2, "weight": 0.5})
    death = threading.Timer(0.1, stack.process("inference@").kill)
    death.start()
    found = many(stack, 400)
    death.join()
    assert len(found) == 400
    assert {one["version"] for one in found} == {1, 2}


def test_predictions_are_counted_by_lane(stack: Stack, versions: None) -> None:
    before = stack.get("/inference/status")["requests"]["raw"]["count"]
    many(stack, 40)

    def counted() -> Any:
        found = stack.get("/inference/status")["requests"]["raw"]
        return found if found["count"] >= before + 40 else None

    found = stack.until(counted, "they are counted", 10)
    assert 0 < found["p50"] <= found["p99"]
