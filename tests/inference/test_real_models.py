from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from inference import batches, worker
from inference.forms import FORMS
from registry import publish, recipes, store
from registry.models import ModelVersion, Task
from training import data
from training.context import Context

ROWS = 120
PREDICT = "/api/v1/inference/predict"


@pytest.fixture
def affinity(alice: User, tmp_path: Path) -> ModelVersion:
    """A model of protein-ligand affinity, trained for a moment on real pairs."""
    recipe = recipes.get("affinity")
    file = tmp_path / "pairs.csv"
    with gzip.open(data.BUILT_IN["bindingdb_sample"].path, "rt") as packed:
        file.write_text("".join(line for line, _ in zip(packed, range(ROWS + 1))))  # noqa: B905
    directories = {name: tmp_path / name for name in ("checkpoints", "scratch")}
    for one in directories.values():
        one.mkdir()
    output = store.aside()
    output.mkdir(parents=True)
    params = recipe.validate({"mode": "smoke_test", "epochs": 1, "split": "random"})
    recipes.load(recipe.fit)(params, file, Context(output=output, **directories))
    task = Task.objects.submit(kind="train", lane="cpu", owner=alice)
    return publish.register(publish.prepare(output), task, "affinity")


@pytest.fixture
def pairs() -> list[dict[str, str]]:
    with gzip.open(data.BUILT_IN["bindingdb_sample"].path, "rt") as packed:
        rows = [row for row, _ in zip(csv.DictReader(packed), range(3))]  # noqa: B905
    return [{"smiles": row["smiles"], "sequence": row["sequence"]} for row in rows]


@pytest.mark.slow
def test_an_affinity_model_answers_pairs_with_value_and_uncertainty(
    affinity: ModelVersion,
    pairs: list[dict[str, str]],
    here: worker.Worker,
    api: APIClient,
) -> None:
    wrong = [{**pairs[0], "smiles": "C1CC("}, {**pairs[0], "sequence": "MK1"}, {}]
    items: list[Any] = [*pairs, *wrong]
    body = api.post(PREDICT, {"inputs": items}, format="json").json()
    assert body["model"] == "affinity"
    good, bad = body["outputs"][:3], body["outputs"][3:]
    for output in good:
        assert 0 < output["affinity"] < 20
        assert output["uncertainty"] >= 0
        assert isinstance(output["ligand_seen"], bool)
    assert [one["error"]["code"] for one in bad] == ["bad_item"] * 3
    again = api.post(PREDICT, {"inputs": items}, format="json").json()
    assert again["outputs"] == body["outputs"]
    alone = api.post(PREDICT, {"inputs": pairs[1:2]}, format="json").json()
    assert alone["outputs"][0]["affinity"] == pytest.approx(good[1]["affinity"], 1e-5)

    assert batches.takes_pairs(affinity)
    form = FORMS["pairs"]
    pair = {"protein": pairs[0]["sequence"], "ligand": pairs[0]["smiles"]}
    answer = here.predict(affinity.pk, [form.as_input(pair)])[0]
    assert form.result(1, pair, pair, answer)["binding_affinity"] == pytest.approx(
        good[0]["affinity"], 1e-5
    )
