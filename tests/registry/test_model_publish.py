from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from registry import publish, store
from registry.errors import Problem
from registry.models import Model, ModelVersion, Task, Upload
from tests.inference import tiny
from tests.inference.conftest import tiny_recipe  # noqa: F401


def register(task: Task, name: str = "m", weight: float = 0.0) -> ModelVersion:
    with transaction.atomic():
        return publish.register(
            publish.prepare(tiny.model_directory(weight)), task, name
        )


def test_a_finished_training_becomes_the_next_version(
    submit: Callable[..., Task], alice: User
) -> None:
    first, second = register(submit(), weight=1.0), register(submit(), weight=2.0)
    assert (str(first), str(second)) == ("m:1", "m:2")
    assert first.digest != second.digest
    assert first.owner == alice
    assert first.metrics == {"loss": 0.5}
    assert first.params == {"seed": 7}
    weights = store.model_path(first.digest) / "model.safetensors"
    assert first.weights_sha256 == store.file_sha256(weights)
    assert store.directory_digest(weights.parent) == first.digest


def test_the_lineage_names_data_seed_code_and_versions(
    submit: Callable[..., Task], alice: User, time: Any
) -> None:
    upload = Upload.objects.create(
        name="kinases", filename="k.csv", sha256="a" * 64, state="sealed", owner=alice,
        created_at=time(), touched_at=time(),
    )  # fmt: skip
    task = submit(params={"dataset": str(upload.pk)})
    lineage = register(task).lineage
    assert lineage["task"] == str(task.pk)
    assert lineage["seed"] == 7
    assert lineage["dataset"]["sha256"] == "a" * 64
    assert lineage["dataset"]["name"] == "kinases"
    assert len(lineage["code"]) == 64
    assert {"compass", "torch", "numpy", "python"} <= set(lineage["versions"])
    assert all(lineage["versions"].values())


def test_one_task_makes_one_version_however_often_it_is_registered(
    submit: Callable[..., Task],
) -> None:
    task = submit()
    assert register(task) == register(task)
    assert ModelVersion.objects.count() == 1
    assert Model.objects.get().last_number == 1


def test_the_same_content_stands_once_in_the_store(submit: Callable[..., Task]) -> None:
    first, second = register(submit()), register(submit())
    assert first.digest == second.digest
    assert first.number != second.number


def test_a_number_is_not_used_again(submit: Callable[..., Task]) -> None:
    register(submit())
    register(submit()).delete()
    assert register(submit()).number == 3


@pytest.mark.parametrize(
    "name", ["", "-a", "a b", "a/b", "a" * 101, "ü", "a:1", "../x"]
)
def test_a_bad_name_registers_nothing(submit: Callable[..., Task], name: str) -> None:
    with pytest.raises(Problem) as caught:
        register(submit(), name)
    assert caught.value.code == "invalid"
    assert not Model.objects.exists()


def _without_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


def _cut(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def _no_header(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"\xff" * 100)


def _no_recipe(path: Path) -> None:
    (path / "config.json").write_text(json.dumps({"params": {}}))


def _no_number(path: Path) -> None:
    (path / "metrics.json").write_text('{"loss": NaN}')


def _no_signature(path: Path) -> None:
    (path / "signature.json").write_text("{}")


@pytest.mark.parametrize(
    "harm", [_without_weights, _cut, _no_header, _no_recipe, _no_number, _no_signature]
)
def test_what_is_not_whole_is_not_published(
    db: None, harm: Callable[[Path], None]
) -> None:
    directory = tiny.model_directory()
    harm(directory)
    with pytest.raises(Problem) as caught:
        publish.prepare(directory)
    assert caught.value.code == "model_unavailable"
    assert directory.exists()
