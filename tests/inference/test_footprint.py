"""What an inference worker does not import before it is needed, for each takes megabytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from inference import engines, loading, predictor, tuning
from inference.cache import Facts
from registry import clock, publish, recipes, store
from registry.models import Model
from tests.inference import light, onnx_files, tiny
from tests.training import affinity_case
from tests.training.tabular_files import MIXED, QUICK, mixed_rows, train, write_csv
from training.recipes.affinity.predictor import Predictor

ITEM = {"x": [0.5] * onnx_files.WIDTH}
# What trains, converts, measures or reads tables, and is needed by none who answers.
HEAVY = (
    "torch", "sympy", "onnx", "onnxscript", "pandas", "pyarrow", "scipy", "sklearn", "rdkit",
    "networkx", "matplotlib",
)  # fmt: skip
BEGIN = """
import json, sys
import django
django.setup()
import compass.celery, compass.worker, inference.tasks
from inference.worker import Worker
one = Worker("inference@one")
"""
SERVE = """
from inference import loading, predictor
from inference.cache import Facts
from registry import recipes
recipes._paths = lambda: {"light": "tests.inference.light:RECIPE"}
facts = Facts(**json.loads(sys.argv[1]))
model = loading.load(facts)
print(json.dumps(predictor.answer(model, json.loads(sys.argv[2]), facts)))
"""
LIST = "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> Facts:
    """A version whose engine is ONNX Runtime."""
    monkeypatch.setattr(
        recipes, "_paths", lambda: {"light": "tests.inference.light:RECIPE"}
    )
    recipes.get.cache_clear()
    digest, size = store.publish_model(
        tiny.model_directory(config={"recipe": "light", "params": {}})
    )
    file = engines.path(digest, engines.ONNX)
    file.parent.mkdir(parents=True)
    file.write_bytes(onnx_files.perceptron().SerializeToString())
    sha256 = store.file_sha256(file)
    return Facts(1, "light:1", "light", digest, size, {}, engines.ONNX, sha256, 4)


def run(*parts: str, arguments: tuple[str, ...] = ()) -> list[Any]:
    """The lines of JSON that another process prints."""
    from django.conf import settings

    environment = {**os.environ, "COMPASS_DATA_DIR": str(settings.DATA_DIR)}
    environment["DJANGO_SETTINGS_MODULE"] = "compass.settings"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(parts), *arguments],
        cwd=Path(__file__).parents[2], env=environment, text=True, check=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_worker_that_served_nothing_holds_neither_numpy_nor_an_engine() -> None:
    (names,) = run(BEGIN, LIST)
    assert "inference" in names
    assert not {*HEAVY, "numpy", "onnxruntime"} & set(names)


@pytest.mark.slow
def test_a_worker_that_serves_on_onnx_runtime_holds_nothing_else(facts: Facts) -> None:
    arguments = json.dumps(asdict(facts)), json.dumps([ITEM] * 3)
    answers, names = run(BEGIN, SERVE, LIST, arguments=arguments)
    assert answers == answers_here(facts)
    assert "onnxruntime" in names
    assert not set(HEAVY) & set(names)


def answers_here(facts: Facts) -> list[dict[str, Any]]:
    return predictor.answer(loading.load(facts), [ITEM] * 3, facts)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_tabular_model_on_onnx_runtime_answers_alike_without_torch(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "SIZES", (1, 2))
    path = write_csv(tmp_path / "data.csv", MIXED, mixed_rows())
    made = train(path, tmp_path, {**QUICK, "members": 2}).directory
    aside = store.aside()
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made, aside)
    found = publish.prepare(aside)
    model = Model.objects.create(name="tabular", created_at=clock.now())
    version = model.register(
        digest=found.digest, weights_sha256=found.weights_sha256, size=found.size,
        recipe=found.recipe, signature=found.signature,
    )  # fmt: skip
    plain = loading.look(version.pk)
    assert plain is not None
    candidates = {one["name"]: one for one in tuning.tune(version)["candidates"]}
    assert candidates[engines.ONNX]["is_correct"], candidates[engines.ONNX]["note"]
    sha256 = candidates[engines.ONNX]["sha256"]
    tuned = replace(plain, engine=engines.ONNX, engine_sha256=sha256)
    items = [*found.signature["examples"], {"nobody": 1}, 3]
    eager = predictor.answer(loading.load(plain), items, plain)
    assert predictor.answer(loading.load(tuned), items, tuned) == eager
    serve = SERVE.replace("light", "tabular").replace(
        "tests.inference.tabular", "training.recipes.tabular.recipe"
    )
    arguments = json.dumps(asdict(tuned)), json.dumps(items)
    answers, names = run(BEGIN, serve, LIST, arguments=arguments)
    assert answers == eager
    assert not set(HEAVY) & set(names)


@pytest.mark.slow
def test_an_affinity_model_answers_alike_without_torch_on_no_engine_at_all(
    db: None, tmp_path: Path
) -> None:
    data = affinity_case.write(tmp_path / "data.csv", affinity_case.rows(200))
    made = affinity_case.train(tmp_path, data).output
    aside = store.aside()
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made, aside)
    digest, size = store.publish_model(aside)
    facts = Facts(1, "affinity:1", "affinity", digest, size, {})
    items = [*affinity_case.rows(20), {"smiles": "CCO", "sequence": "MK9"}, 3]
    serve = SERVE.replace("light", "affinity").replace(
        "tests.inference.affinity", "training.recipes.affinity.recipe"
    )
    arguments = json.dumps(asdict(facts)), json.dumps(items)
    answers, names = run(BEGIN, serve, LIST, arguments=arguments)
    assert not set(HEAVY) - {"rdkit"} & set(names)
    by_torch = Predictor.load(store.model_path(digest))
    wanted = predictor.answer(by_torch, items, facts)
    for one, other in zip(answers, wanted, strict=True):
        assert one.keys() == other.keys()
        for name in {"affinity", "uncertainty"} & set(one):
            assert one[name] == pytest.approx(other[name], rel=1e-5, abs=1e-5)
    assert [one["error"]["code"] for one in answers[-2:]] == ["bad_item"] * 2


def test_where_there_is_a_gpu_a_predictor_that_needs_no_engine_is_loaded_with_torch(
    facts: Facts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Whole(light.Light):
        def predict(self, encoded: list[Any]) -> list[dict[str, Any]]:
            return []

    whole = classmethod(lambda cls, directory: Whole())
    monkeypatch.setattr(light.Predictor, "without_torch", whole)
    eager = replace(facts, engine=engines.EAGER, engine_sha256="")
    monkeypatch.setattr(engines, "GPU_DRIVER", tmp_path / "none")
    assert isinstance(loading.load(eager), Whole)
    monkeypatch.setattr(engines, "GPU_DRIVER", tmp_path)
    assert isinstance(loading.load(eager), light.Predictor)


def test_a_file_that_is_not_the_measured_one_is_not_run_and_torch_answers(
    facts: Facts,
) -> None:
    assert isinstance(loading.load(facts), engines.Tuned)
    other = replace(facts, engine_sha256="0" * 64)
    assert answers_here(other) == [{"y": "by torch"}] * 3


def test_on_another_engine_the_network_is_loaded(facts: Facts) -> None:
    model = loading.load(replace(facts, engine=engines.EAGER, engine_sha256=""))
    assert isinstance(model, light.Predictor)
