"""Engines are compared to eager torch, timed, stored with the version, and served."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import onnx
import pytest
import torch
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient
from torch import nn

from inference import engines, export, loading, predictor, tuner, tuning
from inference.cache import ModelCache
from inference.engines import Tuned
from registry import clock, store
from registry.models import ModelVersion
from tests.inference import network, onnx_files, tiny


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MOMENT", 0.001)
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    monkeypatch.setattr(tuning, "SIZES", (1, 2, 4))


@pytest.fixture
def perceptron(db: None) -> ModelVersion:
    config = {"recipe": "network", "params": {}, "versions": {}}
    return tiny.make_version("perceptron", config=config, signature=network.SIGNATURE)


def answers(version: ModelVersion) -> tuple[Any, list[Any]]:
    facts = loading.look(version.pk)
    assert facts is not None
    model = loading.load(facts)
    return model, predictor.answer(model, network.EXAMPLES, facts)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_engine_is_measured_and_the_chosen_one_answers_alike(
    perceptron: ModelVersion, api: APIClient
) -> None:
    plain, before = answers(perceptron)
    assert isinstance(plain, network.Predictor)
    out = io.StringIO()
    call_command("tune", "perceptron", "--json", stdout=out)
    verdict = json.loads(out.getvalue())
    assert [one["name"] for one in verdict["candidates"]] == list(engines.NAMES)
    for one in verdict["candidates"]:
        assert one["is_correct"], one
        assert one["largest_error"] <= tuning.TOLERANCE
        assert set(one["seconds_a_row"]) == {"1", "2", "4"}
    shown = api.get("/api/v1/models/perceptron/versions/1").json()["engine"]
    assert shown == verdict
    for name in (engines.EXPORTED, engines.ONNX):
        sha256 = next(o["sha256"] for o in verdict["candidates"] if o["name"] == name)
        ModelVersion.objects.update(engine={**verdict, "name": name, "sha256": sha256})
        model, found = answers(perceptron)
        assert isinstance(model, Tuned)
        for one, other in zip(found, before, strict=True):
            assert one["y"] == pytest.approx(other["y"], abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_an_engine_that_answers_otherwise_is_not_chosen(
    perceptron: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(file: Any) -> Any:
        return lambda tensors: (tensors[0][:, :1] * 0,)

    monkeypatch.setitem(export.MAKE, engines.ONNX, lambda m, t, f: f.write_text("w"))
    monkeypatch.setitem(engines.OPEN, engines.ONNX, wrong)
    monkeypatch.setattr(engines, "NAMES", (engines.EAGER, engines.ONNX))
    verdict = tuning.tune(perceptron)
    assert verdict["name"] == engines.EAGER
    assert not verdict["candidates"][1]["is_correct"]
    assert "seconds_a_row" not in verdict["candidates"][1]


def test_an_engine_that_cannot_be_made_says_why(
    perceptron: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("no such operator\nat some place")

    monkeypatch.setitem(export.MAKE, engines.ONNX, refuse)
    monkeypatch.setattr(engines, "NAMES", (engines.EAGER, engines.ONNX))
    verdict = tuning.tune(perceptron)
    assert verdict["name"] == engines.EAGER
    assert verdict["candidates"][1]["note"] == "ValueError: no such operator"
    assert list((store.root() / "aside").iterdir()) == []


def test_a_file_that_was_changed_is_not_run(perceptron: ModelVersion) -> None:
    file = engines.path(perceptron.digest, engines.ONNX)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something else")
    engine = {"name": engines.ONNX, "sha256": "0" * 64, "batch": 4}
    ModelVersion.objects.update(engine=engine)
    model, found = answers(perceptron)
    assert isinstance(model, network.Predictor)
    assert len(found) == len(network.EXAMPLES)


def test_a_predictor_of_one_way_only_runs_that_way(version: ModelVersion) -> None:
    verdict = tuning.tune(version)
    assert (verdict["name"], verdict["candidates"]) == (engines.EAGER, [])
    assert "one way" in verdict["note"]


def test_what_cannot_be_loaded_is_not_measured_and_keeps_its_verdict(
    perceptron: ModelVersion,
) -> None:
    before = tuning.tune(perceptron)
    file = store.model_path(perceptron.digest) / "metrics.json"
    file.chmod(0o644)
    file.write_text('{"loss": 0}')
    with pytest.raises(CommandError, match="not those that were registered") as caught:
        call_command("tune", "perceptron")
    assert caught.value.returncode == 1
    perceptron.refresh_from_db()
    assert perceptron.engine == before


def test_the_smallest_batch_nearly_as_good_is_chosen() -> None:
    slow = {1: 9.0, 8: 5.0}
    fast = {1: 6.0, 4: 2.1, 8: 2.0, 16: 2.05}
    assert tuning.best({"eager": slow, "onnx": fast}) == ("onnx", 4)


def test_a_loaded_model_changes_its_engine_once_it_is_measured(
    perceptron: ModelVersion, cache: ModelCache
) -> None:
    moment = [0.0]
    cache._monotonic = lambda: moment[0]
    with cache.use(perceptron.pk) as (_, facts):
        assert facts.batch == 0
    engine = {"name": engines.EAGER, "sha256": "", "batch": 2}
    ModelVersion.objects.update(engine=engine)
    moment[0] = 5.0
    with cache.use(perceptron.pk) as (_, facts):
        assert (facts.engine, facts.batch) == (engines.EAGER, 2)


class Child:
    code: int | None = None

    def poll(self) -> int | None:
        return self.code


def test_new_versions_are_measured_one_after_the_other(db: None) -> None:
    for weight in (1.0, 2.0):
        tiny.make_version("tiny", weight)
    started: list[ModelVersion] = []
    child = Child()

    def start(version: ModelVersion) -> Child:
        started.append(version)
        return child

    one, other = tuner.Tuner(start), tuner.Tuner(start)
    one.look()
    one.look()
    assert [v.number for v in started] == [1]
    other.look()
    assert [v.number for v in started] == [1, 2]
    child.code = 1
    one.look()
    failed = ModelVersion.objects.get(number=1)
    assert failed.engine is not None
    assert "ended early" in failed.engine["note"]
    assert len(started) == 2


def test_a_claim_that_grew_old_is_taken_over(db: None, time: Any) -> None:
    tiny.make_version()
    assert tuning.next_untuned() is not None
    assert tuning.next_untuned() is None
    time.forward(minutes=16)
    found = tuning.next_untuned()
    assert found is not None
    found.refresh_from_db()
    assert found.tuning_at == clock.now()


def test_a_pass_costs_what_the_processor_had_to_do_and_not_what_others_did() -> None:
    processor, wall = [0.0], [0.0]

    def run(rows: int) -> None:
        processor[0] += 0.001 * rows
        wall[0] += 0.001 * rows + 0.01  # another process had its turn

    spent = tuning._once(run, 2, lambda: processor[0], lambda: wall[0])
    assert spent == pytest.approx(0.002)


class Letters(nn.Module):
    """An embedding and two convolutions over it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.letters = nn.Embedding(9, 4)
        self.layers = nn.Sequential(
            nn.Conv1d(4, 16, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(16, 16, 3),
            nn.Flatten(),
        )

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.layers(self.letters(letters).transpose(1, 2)))


class Model:
    """What is asked of a predictor when its network is written."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quickest", [0, 1, 2])
def test_the_quickest_form_of_a_graph_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quickest: int
) -> None:
    file, model = tmp_path / "network.onnx", Model(Letters())
    seconds = iter([float(at != quickest) for at in range(3)])
    monkeypatch.setattr(export, "_takes", lambda *_: next(seconds))
    tensors = (torch.randint(0, 9, (2, 20)),)
    export.export_onnx(cast(Any, model), tensors, file)
    assert list(tmp_path.iterdir()) == [file]
    shapes = sorted(len(one.dims) for one in onnx.load(file).graph.initializer)
    convolutions = {0: [3, 3], 1: [4, 4], 2: [4]}[quickest]
    assert [size for size in shapes if size > 2] == convolutions
    with torch.inference_mode():
        (found,) = engines.open_onnx(file)(tensors)
        wanted = model.network(*tensors)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_the_passes_of_a_graph_are_timed(tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    file.write_bytes(onnx_files.perceptron().SerializeToString())
    assert 0.0 < export._takes(file, (torch.zeros(2, onnx_files.WIDTH),)) < 1.0
