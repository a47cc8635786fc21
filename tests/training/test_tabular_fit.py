from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry import recipes
from registry.errors import BadData, Problem
from tests.training.tabular_files import (
    MIXED,
    QUICK,
    Trained,
    mixed_rows,
    train,
    write_csv,
)
from training.context import Stopped


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("csv") / "data.csv", MIXED, mixed_rows())


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(table, tmp_path_factory.mktemp("trained"))


def set_csv(path: Path, name: str) -> Path:
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    header = [*(f"x{i}" for i in range(x.shape[1])), "y"]
    rows = zip(x.tolist(), y.tolist(), strict=True)
    return write_csv(path, header, ([*row, value] for row, value in rows))


def test_the_model_directory_has_all_that_is_needed(trained: Trained) -> None:
    assert set(trained.files()) == {
        "config.json",
        "metrics.json",
        "model.safetensors",
        "signature.json",
    }
    assert trained.read("config.json")["params"]["hidden"] == [8]


def test_the_metrics_are_those_of_the_task(trained: Trained) -> None:
    metrics = trained.metrics
    assert 0 <= metrics["accuracy"] <= 1
    assert {"auc", "log_loss"} <= set(metrics)
    assert metrics["rows"] == {"train": 48, "test": 12}
    assert metrics["measured_on"] == "test"


def test_baselines_are_told_before_the_first_epoch(trained: Trained) -> None:
    names = [
        next(iter(one["values"])) for one in trained.events if one["event"] == "metric"
    ]
    assert names[0].startswith("trivial_")
    assert names[1].startswith("linear_")
    assert names[2] == "loss"
    assert set(trained.metrics["baselines"]) == {"trivial", "linear"}


def test_the_signature_names_each_column_with_its_type(trained: Trained) -> None:
    inputs = trained.read("signature.json")["inputs"]
    assert inputs["properties"]["size"]["type"] == ["number", "null"]
    assert inputs["properties"]["colour"]["categories"] == ["blue", "green", "red"]
    assert inputs["properties"]["sold"]["type"] == ["boolean", "string"]
    assert inputs["required"] == ["colour", "sold"]
    assert inputs["additionalProperties"] is False


def test_the_same_seed_gives_the_same_bytes(
    table: Path, trained: Trained, tmp_path: Path
) -> None:
    assert train(table, tmp_path).files() == trained.files()


def test_another_seed_gives_another_model(
    table: Path, trained: Trained, tmp_path: Path
) -> None:
    other = train(table, tmp_path, {**QUICK, "seed": 1})
    weights = "model.safetensors"
    assert other.files()[weights] != trained.files()[weights]


@pytest.mark.parametrize("stop_at", [0, 2, 9])
def test_a_stopped_training_goes_on_to_the_same_bytes(
    table: Path, trained: Trained, tmp_path: Path, stop_at: int
) -> None:
    asked = 0

    def stop_in_training() -> bool:
        nonlocal asked
        asked += sys._getframe(1).f_code.co_name == "fit"
        return asked > stop_at

    params = {**QUICK, "batch_size": 8, "epochs": 3}
    whole = train(table, tmp_path / "whole", params)
    with pytest.raises(Stopped):
        train(table, tmp_path / "part", params, should_stop=stop_in_training)
    assert not (tmp_path / "part" / "output").exists()
    resumed = train(table, tmp_path / "part", params)
    assert any("checkpoint" in note for note in resumed.notes)
    assert resumed.files() == whole.files()


def test_a_stop_is_heard_before_the_networks_begin(table: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(table, tmp_path, should_stop=lambda: True)
    assert not (tmp_path / "output").exists()


def test_bad_data_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ["a", "y"], [[i, "same"] for i in range(40)])
    with pytest.raises(BadData):
        train(path, tmp_path)
    assert not (tmp_path / "output").exists()


CHANGES: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "weight_decay": 0.5,
    "dropout": 0.5,
    "epochs": 2,
    "batch_size": 8,
    "members": 2,
    "hidden": [4, 4],
    "bins": 0,
    "warmup": 0.5,
    "schedule": "constant",
    "clip_norm": 0.01,
    "accumulation": 2,
    "validation_fraction": 0.4,
    "test_fraction": 0.4,
    "max_categories": 1,
    "target": "colour",
    "categories": ["size"],
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_parameter_changes_the_model(
    table: Path, trained: Trained, tmp_path: Path, name: str
) -> None:
    base = {**QUICK, "batch_size": 16}
    one = train(table, tmp_path / "one", base)
    other = train(table, tmp_path / "other", {**base, name: CHANGES[name]})
    weights = "model.safetensors"
    assert one.files()[weights] != other.files()[weights]


def test_patience_ends_a_training_that_no_longer_improves(
    table: Path, tmp_path: Path
) -> None:
    patient = {**QUICK, "epochs": 60, "learning_rate": 0.1, "patience": 2}
    events = train(table, tmp_path, patient).events
    epochs = [e for e in events if "validation_loss" in e.get("values", {})]
    assert 3 <= len(epochs) < 60


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 10_001),
        ("batch_size", 4097),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", 1.1),
        ("optimizer", "lion"),
        ("hidden", [0]),
        ("hidden", ["8"]),
        ("members", True),
        ("test_fraction", 0.6),
        ("no_such_thing", 1),
    ],
)
def test_a_parameter_out_of_bounds_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Problem) as caught:
        recipes.get("tabular").validate({name: value})
    assert caught.value.code == "invalid"
    assert next(iter(caught.value.errors)).startswith(f"params.{name}")


@pytest.mark.parametrize(
    "mode", ["smoke_test", "prototyping", "validation", "production"]
)
def test_each_mode_gives_valid_parameters(mode: str) -> None:
    assert recipes.get("tabular").validate({"mode": mode}).mode == mode


def test_the_definition_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; import training.recipes.tabular.recipe;"
        "print({'torch', 'numpy', 'sklearn', 'django'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_without_held_out_rows_the_metrics_are_out_of_fold(
    table: Path, tmp_path: Path
) -> None:
    metrics = train(
        table, tmp_path, {**QUICK, "test_fraction": 0.0, "members": 2}
    ).metrics
    assert metrics["measured_on"] == "out_of_fold"
    assert metrics["rows"] == {"train": 60, "test": 0}
    assert metrics["accuracy"] == metrics["validation"]["accuracy"]


MEASURES: dict[str, Callable[[Any], bool]] = {
    "wine": lambda metrics: metrics["accuracy"] >= 0.94,
    "diabetes": lambda metrics: metrics["r2"] >= 0.35,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURES)
def test_known_sets_are_learned_well(tmp_path: Path, name: str) -> None:
    metrics = train(set_csv(tmp_path / "x.csv", name), tmp_path, {"seed": 0}).metrics
    assert MEASURES[name](metrics), metrics


def test_constant_huge_and_crowded_columns_do_no_harm(tmp_path: Path) -> None:
    rows = (
        [1e300 * (-1) ** i, 5, f"u{i % 30}", "" if i % 2 else i, i % 3]
        for i in range(90)
    )
    path = write_csv(tmp_path / "x.csv", ["a", "b", "c", "d", "y"], rows)
    made = train(path, tmp_path, {**QUICK, "max_categories": 5})
    assert made.metrics["accuracy"] >= 0
    assert made.notes == ["Column b is not used: it does not vary."]
