from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry.errors import BadData
from tests.training.affinity_case import Training, rows, train, write
from training.bundle import load_bundle
from training.context import Context, Stopped
from training.recipes.affinity.network import Course, Lesson
from training.recipes.affinity.pairs import Cells
from training.recipes.affinity.recipe import RECIPE
from training.recipes.affinity.scale import Scale


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("affinity") / "data.csv", rows())


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Training:
    home = tmp_path_factory.mktemp("trained")
    return train(home, dataset, protein_similarity="alignment", epochs=12)


def files(training: Training) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in training.output.iterdir()}


def metrics(training: Training) -> dict[str, Any]:
    found: dict[str, Any] = load_bundle(training.output).metrics
    return found


def test_the_model_is_better_than_every_trivial_baseline(trained: Training) -> None:
    figures = metrics(trained)
    for name in ("mean", "mean_per_protein", "mean_per_ligand", "additive"):
        assert figures["mse"] < figures["baselines"][name]["mse"]
    assert set(figures) >= {"mse", "rmse", "mae", "ci", "rm2", "pearson", "spearman"}


def test_baselines_are_told_before_the_first_epoch(trained: Training) -> None:
    names = [set(values) for _, values in trained.metrics]
    first_loss = next(n for n, one in enumerate(names) if "loss" in one)
    told = set().union(*names[:first_loss])
    assert told >= {"mean_per_protein_mse", "kernel_kmers_ci", "kernel_mse"}
    assert "test_mse" in names[-1]


def test_progress_never_goes_back(trained: Training) -> None:
    assert trained.fractions == sorted(trained.fractions)
    assert (trained.fractions[0], trained.fractions[-1]) == (0.0, 1.0)


def test_the_same_seed_gives_the_same_bytes_in_every_file(
    tmp_path: Path, dataset: Path, trained: Training
) -> None:
    torch.rand(3)
    again = train(tmp_path, dataset, protein_similarity="alignment", epochs=12)
    assert files(again) == files(trained)


def test_another_seed_gives_other_weights(tmp_path: Path, dataset: Path) -> None:
    one, other = (train(tmp_path / str(n), dataset, seed=n) for n in (1, 2))
    assert files(one)["model.safetensors"] != files(other)["model.safetensors"]


@pytest.mark.parametrize("share", [0.01, 0.4, 0.8, 0.9, 0.99])
def test_a_stopped_training_goes_on_to_the_same_bytes(
    tmp_path: Path, dataset: Path, trained: Training, share: float
) -> None:
    left = [int(share * trained.looks)]

    def should_stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    params: dict[str, Any] = {"protein_similarity": "alignment", "epochs": 12}
    with pytest.raises(Stopped):
        train(tmp_path, dataset, should_stop=should_stop, **params)
    assert not (tmp_path / "output").exists()
    again = train(tmp_path, dataset, **params)
    assert files(again) == files(trained)


def test_a_given_fold_is_the_test(trained: Training) -> None:
    wanted = sum(one["fold"] == "test" for one in rows())
    assert metrics(trained)["rows"]["test"] == wanted


@pytest.mark.parametrize(
    "split", ["random", "cold_ligand", "cold_protein", "cold_both"]
)
def test_every_split_trains_and_judges(
    tmp_path: Path, dataset: Path, split: str
) -> None:
    done = train(tmp_path, dataset, split=split, validation_fraction=0.2)
    figures = metrics(done)
    assert figures["rows"]["test"] > 0
    seen = load_bundle(done.output).config
    everything = figures["rows"]
    is_new_ligand = len(seen["ligands"]) < everything["ligands"]
    assert is_new_ligand or split in ("random", "cold_protein")
    assert any("val_mse" in values for _, values in done.metrics)


@pytest.mark.parametrize(
    "params",
    [
        {"optimizer": "sgd", "learning_rate": 0.01, "schedule": "cosine"},
        {"optimizer": "rmsprop", "learning_rate": 0.001, "schedule": "constant"},
        {"optimizer": "adam", "weight_decay": 0.0, "warmup": 0.0, "dropout": 0.5},
        {"clip_norm": 0.1, "accumulation": 2, "batch_size": 32},
        {"members": 1, "columns": 8, "precision": "full"},
        {"kernel_lambda": 5.0, "floor": "none"},
        {"epochs": 6, "patience": 1, "validation_fraction": 0.2},
        {"hidden": 64, "width": 8, "head": 8, "batch_size": "auto"},
    ],
)
def test_every_parameter_is_used_and_recorded(
    tmp_path: Path, dataset: Path, params: dict[str, Any]
) -> None:
    usual = train(tmp_path / "usual", dataset)
    other = train(tmp_path / "other", dataset, **params)
    assert files(usual)["model.safetensors"] != files(other)["model.safetensors"]
    recorded = load_bundle(other.output).params
    assert {name: recorded[name] for name in params} == params


def test_a_named_blend_is_the_weight_of_both(tmp_path: Path, dataset: Path) -> None:
    only_kernel = train(tmp_path, dataset, blend=0.0)
    figures = metrics(only_kernel)
    assert figures["mse"] == pytest.approx(figures["baselines"]["kernel"]["mse"])


def test_a_set_of_another_range_without_folds_is_learned_too(tmp_path: Path) -> None:
    def kiba(row: dict[str, str]) -> dict[str, str]:
        value = max(0.0, 17.2 - 1.3 * float(row["affinity"]))
        return {
            "smiles": row["smiles"],
            "sequence": row["sequence"],
            "affinity": f"{value:.5f}",
        }

    done = train(
        tmp_path, write(tmp_path / "kiba.csv", [kiba(one) for one in rows()]), epochs=12
    )
    figures = metrics(done)
    assert figures["mse"] < figures["baselines"]["mean"]["mse"]
    assert figures["ci"] > 0.6
    assert figures["rows"]["test"] == pytest.approx(0.2 * 320, abs=2)
    assert load_bundle(done.output).config["scale"]["mean"] > 8


def test_rows_named_valid_judge_and_choose_the_blend(tmp_path: Path) -> None:
    table = rows()
    for place, row in enumerate(table):
        row["fold"] = ("train", "train", "train", "valid", "Test")[place % 5]
    done = train(tmp_path, write(tmp_path / "data.csv", table), split="given")
    assert metrics(done)["rows"]["validation"] == 64
    assert any("val_mse" in values for _, values in done.metrics)
    assert load_bundle(done.output).config["blend"]["known"] != 0.65


@pytest.mark.parametrize("members", [1, 3])
def test_twelve_rows_are_enough(tmp_path: Path, members: int) -> None:
    table = [{**row, "fold": ""} for row in rows(320)[::26][:12]]
    done = train(tmp_path, write(tmp_path / "data.csv", table), members=members)
    assert metrics(done)["rows"]["test"] == 2
    assert any("Too few pairs to set some aside" in one for one in done.notes)


def test_a_split_without_test_rows_is_refused(tmp_path: Path) -> None:
    table = [{**row, "fold": "train"} for row in rows(40)]
    with pytest.raises(BadData, match="0 rows for the test"):
        train(tmp_path, write(tmp_path / "data.csv", table), split="given")


def test_a_floor_is_found_in_the_data_and_lets_weak_pairs_be_weaker() -> None:
    some = Cells(
        np.zeros(4, np.int64), np.arange(4), np.array([5.0, 5.0, 7.0, 8.0]), np.ones(4)
    )
    lesson = Lesson(
        torch.zeros(1, 2),
        torch.zeros(4, 2),
        some,
        Scale(0.0, 1.0, 5.0),
        [(np.arange(4), np.arange(0))],
        None,
    )
    course = Course(lesson, RECIPE.validate({"members": 1, "floor_slope": 0.1}), "cpu")

    class Constant(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, *rows: torch.Tensor) -> torch.Tensor:
            return torch.full(rows[2].shape, self.value)

    at_floor = torch.tensor(
        [n for n, k in enumerate(course.orders[0].tolist()) if k in (0, 1)]
    )
    assert course.loss(Constant(4.0), at_floor).item() == pytest.approx(0.01)
    assert course.loss(Constant(6.0), at_floor).item() == pytest.approx(1.0)


def test_the_context_is_all_that_a_training_needs(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    events: list[Callable[..., Any] | Any] = []
    train(tmp_path / "home", dataset)
    context = Context(Path("c"), Path("o"), Path("s"), report=events.append)
    from training.recipes.affinity.fit import fit

    fit(RECIPE.validate({"mode": "smoke_test", "epochs": 1}), dataset, context)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["c", "home", "o"]
