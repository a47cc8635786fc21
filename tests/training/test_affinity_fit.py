from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry.errors import BadData, BadItem
from tests.training.affinity_case import Training, rows, train, write
from training.bundle import load_bundle
from training.context import Context, Stopped
from training.recipes.affinity.network import Course, Lesson
from training.recipes.affinity.pairs import Cells
from training.recipes.affinity.predictor import Cache, Entity, Predictor
from training.recipes.affinity.recipe import INPUTS, OUTPUTS, RECIPE
from training.recipes.affinity.scale import Scale


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("affinity") / "data.csv", rows())


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Training:
    home = tmp_path_factory.mktemp("trained")
    return train(home, dataset, protein_similarity="alignment", epochs=12)


@pytest.fixture(scope="session")
def predictor(trained: Training) -> Predictor:
    return Predictor.load(trained.output)


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


def test_the_predictor_gives_what_the_training_judged(
    trained: Training, predictor: Predictor
) -> None:
    test = [one for one in rows() if one["fold"] == "test"]
    answers = predictor.predict([predictor.encode(one) for one in test])
    errors = [
        (answer["affinity"] - float(one["affinity"])) ** 2
        for answer, one in zip(answers, test, strict=True)
    ]
    assert np.mean(errors) == pytest.approx(metrics(trained)["mse"], rel=1e-4)


def test_neighbours_and_the_past_change_no_answer(trained: Training) -> None:
    items = rows()[:40]
    one, other = Predictor.load(trained.output), Predictor.load(trained.output)
    together = one.predict([one.encode(item) for item in items])
    for item, answer in zip(reversed(items), reversed(together), strict=True):
        alone = other.predict([other.encode(item)])[0]
        assert alone["affinity"] == pytest.approx(answer["affinity"], abs=1e-5)
        assert alone["uncertainty"] == pytest.approx(answer["uncertainty"], abs=1e-5)
    assert one.predict([]) == []


def test_an_answer_fits_the_signature(trained: Training, predictor: Predictor) -> None:
    from jsonschema import Draft202012Validator

    signature = json.loads((trained.output / "signature.json").read_bytes())
    assert (signature["inputs"], signature["outputs"]) == (INPUTS, OUTPUTS)
    assert len(signature["examples"]) == 3
    for item in signature["examples"]:
        assert Draft202012Validator(INPUTS).is_valid(item)
        answer = predictor.predict([predictor.encode(item)])[0]
        Draft202012Validator(OUTPUTS).validate(answer)


def test_an_answer_tells_what_was_seen_in_training(predictor: Predictor) -> None:
    known = next(one for one in rows() if one["fold"] == "train")
    new = {"smiles": "CCCCCCCCBr", "sequence": "MKVLAAGELLKWYH"}

    def ask(smiles: str, sequence: str) -> dict[str, Any]:
        item = {"ligand": smiles, "protein": sequence}
        return predictor.predict([predictor.encode(item)])[0]

    both = ask(known["smiles"], known["sequence"])
    assert (both["ligand_seen"], both["protein_seen"]) == (True, True)
    assert both["ligand_similarity"] == pytest.approx(1)
    assert both["protein_similarity"] == pytest.approx(1)
    neither = ask(new["smiles"], new["sequence"])
    assert (neither["ligand_seen"], neither["protein_seen"]) == (False, False)
    assert neither["ligand_similarity"] < 1
    assert neither["protein_similarity"] < 1
    assert neither["uncertainty"] > 0


def test_a_ligand_is_known_by_any_spelling(predictor: Predictor) -> None:
    from rdkit import Chem

    known = next(one for one in rows() if one["fold"] == "train")
    molecule = Chem.MolFromSmiles(known["smiles"])
    other = Chem.MolToSmiles(molecule, doRandom=True, canonical=False)
    item = {"smiles": other, "sequence": f" {known['sequence'].lower()}*\n"}
    answer = predictor.predict([predictor.encode(item)])[0]
    assert (answer["ligand_seen"], answer["protein_seen"]) == (True, True)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("CCO", "an item is an object"),
        ({}, "smiles or ligand is missing"),
        ({"smiles": "CCO"}, "sequence or protein is missing"),
        ({"smiles": None, "sequence": "MKV"}, "smiles or ligand is missing"),
        ({"smiles": "CCO", "ligand": "C", "sequence": "MKV"}, "is there twice"),
        ({"smiles": 3, "sequence": "MKV"}, "a text is needed, not int"),
        ({"smiles": "CCO", "sequence": ["MKV"]}, "a text is needed, not list"),
        ({"smiles": "", "sequence": "MKV"}, "smiles: the SMILES has no atoms"),
        ({"smiles": "C1CC", "sequence": "MKV"}, "unclosed ring at position 2"),
        ({"smiles": "CF=O", "sequence": "MKV"}, "Explicit valence for atom # 1"),
        ({"smiles": "CCO", "sequence": "MK9"}, "'9' at position 3"),
        ({"smiles": "CCO", "sequence": "ATGATGATG"}, "DNA or RNA"),
        ({"smiles": "CCO", "sequence": " "}, "sequence is empty"),
        ({"smiles": "C" * 4001, "sequence": "MKV"}, "4,001 characters"),
        ({"smiles": "CCO", "protein": "M" * 36_001}, "36,001 characters"),
    ],
)
def test_a_bad_item_is_refused_in_words(
    predictor: Predictor, item: Any, words: str
) -> None:
    with pytest.raises(BadItem, match=words):
        predictor.encode(item)


def test_a_ligand_of_several_parts_is_answered_with_a_warning(
    predictor: Predictor,
) -> None:
    item = {"smiles": "[Na+].CC(=O)[O-]", "sequence": "MKVLAAGELLK"}
    answer = predictor.predict([predictor.encode(item)])[0]
    assert "several parts" in answer["warnings"][0]


def test_a_cache_keeps_what_was_used_last() -> None:
    made: list[str] = []

    def make(name: str) -> Entity:
        made.append(name)
        return Entity(name, False, torch.zeros(1), torch.zeros(1))

    cache = Cache(2)
    for name in ("a", "b", "a", "c", "a", "b"):
        assert cache.get(name, make).name == name
    assert made == ["a", "b", "c", "b"]
    assert len(cache.entities) == 2


def test_a_model_without_kept_rows_answers_the_same(
    trained: Training, predictor: Predictor
) -> None:
    bundle = load_bundle(trained.output)
    del bundle.tensors["protein.rows"]
    other = Predictor(bundle, "cpu")
    for item in rows()[:5]:
        one, two = (p.predict([p.encode(item)])[0] for p in (predictor, other))
        assert one["affinity"] == pytest.approx(two["affinity"], abs=1e-5)


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
