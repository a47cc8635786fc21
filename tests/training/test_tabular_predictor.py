from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.errors import BadItem, Problem
from tests.training.tabular_files import (
    MIXED,
    QUICK,
    Trained,
    mixed_rows,
    train,
    write_csv,
)
from training.recipes.tabular.predictor import Predictor

GOOD = {"size": 0.4, "colour": "red", "sold": True}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    path = write_csv(folder / "data.csv", MIXED, mixed_rows())
    return train(path, folder, {**QUICK, "members": 3})


@pytest.fixture(scope="module")
def predictor(trained: Trained) -> Predictor:
    return Predictor.load(trained.directory)


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("regressor")
    x = np.random.default_rng(0).normal(size=(200, 3))
    y = 1000 + 50 * x[:, 0] + np.random.default_rng(1).normal(size=200)
    rows = ([*one, value] for one, value in zip(x.tolist(), y.tolist(), strict=True))
    path = write_csv(folder / "data.csv", ["a", "b", "c", "y"], rows)
    params = {**QUICK, "members": 2, "epochs": 40, "learning_rate": 0.01}
    return Predictor.load(train(path, folder, params).directory)


def ask(predictor: Predictor, *items: Any) -> list[dict[str, Any]]:
    return predictor.predict([predictor.encode(item) for item in items])


def test_a_class_comes_with_all_probabilities(predictor: Predictor) -> None:
    (answer,) = ask(predictor, GOOD)
    assert set(answer["probabilities"]) == {"big", "small"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert answer["probability"] == answer["probabilities"][answer["class"]]
    assert answer["probability"] == max(answer["probabilities"].values())


def test_a_value_comes_with_its_uncertainty(regressor: Predictor) -> None:
    low, high = ask(regressor, *({"a": a, "b": 0, "c": 0} for a in (-1, 1)))
    assert low["value"] == pytest.approx(950, abs=15)
    assert high["value"] == pytest.approx(1050, abs=15)
    assert 0 < low["uncertainty"] < 50


def test_the_answer_does_not_depend_on_the_neighbours(predictor: Predictor) -> None:
    random = np.random.default_rng(0)
    items = [{**GOOD, "size": float(one)} for one in random.normal(size=300)]
    alone = [ask(predictor, item)[0] for item in items]
    assert ask(predictor, *items) == alone
    assert ask(predictor, *reversed(items)) == alone[::-1]
    assert ask(predictor, *items[37:90]) == alone[37:90]


def test_the_held_out_accuracy_is_that_of_the_answers(tmp_path: Path) -> None:
    rows = [
        [*row, "test" if i % 3 == 0 else "train"] for i, row in enumerate(mixed_rows())
    ]
    path = write_csv(tmp_path / "x.csv", [*MIXED, "fold"], rows)
    made = train(path, tmp_path, {**QUICK, "target": "label", "fold_column": "fold"})
    predictor = Predictor.load(made.directory)
    with path.open() as file:
        held = [row for row in csv.DictReader(file) if row["fold"] == "test"]
    answers = ask(predictor, *held)
    hits = [
        one["class"] == row["label"] for one, row in zip(answers, held, strict=True)
    ]
    assert made.metrics["accuracy"] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"size": "large"}, "size"),
        ({"size": math.nan}, "size"),
        ({"size": math.inf}, "size"),
        ({"size": 10**400}, "size"),
        ({"size": True}, "size"),
        ({"size": [1]}, "size"),
        ({"colour": None}, "colour"),
        ({"colour": ""}, "colour"),
        ({"colour": {"a": 1}}, "colour"),
        ({"sold": "perhaps"}, "sold"),
        ({"weight": 1}, "weight"),
    ],
)
def test_a_bad_item_is_refused_by_the_name_of_its_field(
    predictor: Predictor, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadItem, match=rf"^{field}"):
        predictor.encode({**GOOD, **change})


@pytest.mark.parametrize("item", [None, 3, "red", [1, 2]])
def test_an_item_that_is_no_object_is_refused(predictor: Predictor, item: Any) -> None:
    with pytest.raises(BadItem):
        predictor.encode(item)


def test_a_column_without_gaps_in_training_is_needed(predictor: Predictor) -> None:
    with pytest.raises(BadItem, match=r"^colour"):
        predictor.encode({"size": 0.4, "sold": True})


def test_a_gap_is_taken_where_training_had_some(predictor: Predictor) -> None:
    without = {k: v for k, v in GOOD.items() if k != "size"}
    answers = ask(predictor, without, {**GOOD, "size": None}, {**GOOD, "size": "NA"})
    assert answers[0] == answers[1] == answers[2]
    assert answers[0] != ask(predictor, GOOD)[0]


def test_an_unseen_category_is_other_and_told(predictor: Predictor) -> None:
    purple, pink = ask(
        predictor, *({**GOOD, "colour": one} for one in ("purple", "pink"))
    )
    assert purple == pink
    assert purple["other"] == ["colour"]
    assert "other" not in ask(predictor, GOOD)[0]


def test_whole_rows_with_the_target_may_be_sent(predictor: Predictor) -> None:
    assert ask(predictor, {**GOOD, "label": "big"}) == ask(predictor, GOOD)


def test_cells_of_a_csv_file_are_read_as_in_training(predictor: Predictor) -> None:
    texts = {"size": " 0.4", "colour": "red ", "sold": "TRUE"}
    assert ask(predictor, texts) == ask(predictor, GOOD)


def test_the_examples_of_the_signature_are_good_items(
    trained: Trained, predictor: Predictor
) -> None:
    examples = trained.read("signature.json")["examples"]
    assert len(ask(predictor, *examples)) == len(examples) == 3


def test_nothing_asked_is_nothing_answered(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_its_size_is_that_of_its_weights(
    trained: Trained, predictor: Predictor
) -> None:
    stored = (trained.directory / "model.safetensors").stat().st_size
    assert predictor.nbytes > stored


def test_damaged_files_are_a_model_that_is_not_available(
    trained: Trained, tmp_path: Path
) -> None:
    for name, content in trained.files().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(Problem) as caught:
        Predictor.load(tmp_path)
    assert caught.value.code == "model_unavailable"
