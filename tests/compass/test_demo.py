from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from compass.client import Compass, Task
from compass.demo import LEVELS, Demo, DemoFailed, measured_pairs, watched


class FakeClient(Compass):
    """Answers what the test says, and keeps what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, {}

    def predict(self, inputs: Any, model: str = "") -> dict[str, Any]:
        self.asked["predict"] = (inputs, model)
        return self.answers["predict"]

    def batch(self, *, wait: int = 30, **body: Any) -> dict[str, Any]:
        self.asked["batch"] = body
        return self.answers["batch"]


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(out: io.StringIO) -> Console:
    return Console(file=out, width=120)


def batch_answer(good: int, bad: int) -> dict[str, Any]:
    error = {"code": "bad_item", "detail": "smiles: not a SMILES"}
    rows: list[dict[str, Any]] = [{"success": True}] * good
    rows += [{"success": False, "ligand": "C1CC(N", "error": error}] * bad
    return {
        "results": rows,
        "total_count": good + bad,
        "success_count": good,
        "failed_count": bad,
    }


def test_pairs_are_measured_ones_from_weak_to_strong() -> None:
    pairs = measured_pairs()
    assert len(pairs) == len(LEVELS)
    assert all(pair["fold"] == "test" for pair in pairs)
    values = [float(pair["affinity"]) for pair in pairs]
    assert values == sorted(values)
    assert values[-1] - values[0] > 3


def test_predictions_stand_beside_measurements(
    console: Console, out: io.StringIO
) -> None:
    outputs = [{"affinity": 6.25, "uncertainty": 0.5}] * len(LEVELS)
    client = FakeClient(predict={"outputs": outputs, "took": 0.004})
    Demo(client, console).predict("affinity:1")
    assert "6.25" in out.getvalue()
    assert "± 0.50" in out.getvalue()
    for pair in measured_pairs():
        assert f"{float(pair['affinity']):.2f}" in out.getvalue()


def test_the_bad_item_is_shown_with_its_error(
    console: Console, out: io.StringIO
) -> None:
    client = FakeClient(batch=batch_answer(len(LEVELS), 1))
    Demo(client, console).batch("affinity:1")
    assert "not a SMILES" in out.getvalue()
    assert len(client.asked["batch"]["protein_ligand_pairs"]) == len(LEVELS) + 1


@pytest.mark.parametrize(("good", "bad"), [(0, 7), (5, 2), (7, 0)])
def test_a_bad_item_that_hurts_its_neighbours_fails_the_demo(
    console: Console, good: int, bad: int
) -> None:
    client = FakeClient(batch=batch_answer(good, bad))
    with pytest.raises(DemoFailed):
        Demo(client, console).batch("affinity:1")


def finished(mse: float) -> Task:
    metrics = {
        "mse": mse,
        "ci": 0.8,
        "baselines": {"mean_per_protein": {"mse": 0.9, "ci": 0.65}},
    }
    return Task(FakeClient(), {"id": "1", "result": {"metrics": metrics}})


def test_metrics_stand_beside_baseline_and_published_values(
    console: Console, out: io.StringIO
) -> None:
    Demo(FakeClient(), console).show_metrics(finished(0.5))
    text = out.getvalue()
    for word in ("0.500", "0.900", "mean per protein", "DeepDTA", "0.261"):
        assert word in text


def test_a_model_no_better_than_the_mean_fails_the_demo(console: Console) -> None:
    with pytest.raises(DemoFailed, match="no better"):
        Demo(FakeClient(), console).show_metrics(finished(0.95))


def test_without_a_terminal_progress_is_a_line_each_tenth(
    console: Console, out: io.StringIO
) -> None:
    def at(fraction: float, state: str = "running") -> Task:
        fields = {
            "state": state,
            "waiting_for": ["The node has no free CPU."],
            "progress": {"fraction": fraction, "eta": 12.2},
            "metrics": {"loss": 0.5},
        }
        return Task(FakeClient(), fields)

    with watched(console) as show:
        for task in (at(0, "pending"), at(0.11), at(0.12), at(0.2)):
            show(task)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "no free CPU" in lines[0]
    assert "10 %" in lines[1]
    assert "loss 0.5000, 12 s left" in lines[1]
