from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.errors import BadItem
from tests.training.affinity_case import Training, rows, train, write
from training.bundle import load_bundle
from training.recipes.affinity.plain import gelu
from training.recipes.affinity.predictor import Cache, Entity, Predictor
from training.recipes.affinity.recipe import INPUTS, OUTPUTS


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


def metrics(training: Training) -> dict[str, Any]:
    found: dict[str, Any] = load_bundle(training.output).metrics
    return found


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


def mapped(file: Path) -> list[range]:
    """The addresses of this process at which that file is mapped."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(file)):
            first, last = line.split()[0].split("-")
            found.append(range(int(first, 16), int(last, 16)))
    return found


def test_weights_stay_in_the_mapped_file_so_that_workers_share_its_pages(
    trained: Training, tmp_path: Path
) -> None:
    here = tmp_path / "model"
    shutil.copytree(trained.output, here)
    one = Predictor.load(here)
    one.predict([one.encode(item) for item in rows()[:3]])
    ranges = mapped((here / "model.safetensors").resolve())
    weights = [one.numpy() for one in one.networks.ensemble.state_dict().values()]
    plain = Predictor.without_torch(here)
    plain.predict([plain.encode(item) for item in rows()[:3]])
    ranges += mapped((here / "model.safetensors").resolve())
    weights += [one.coefficients, plain.coefficients, *plain.networks.weights.values()]
    assert len(weights) > 20
    for values in weights:
        assert values.dtype == np.float32
        assert any(values.ctypes.data in some for some in ranges)


def test_without_torch_it_answers_alike(
    trained: Training, predictor: Predictor
) -> None:
    items = [*rows()[:150], {"smiles": "CCCCCCCCBr", "sequence": "MKVLAAGELLKWYH"}]
    plain = Predictor.without_torch(trained.output)
    answers, wanted = (
        one.predict([one.encode(item) for item in items]) for one in (plain, predictor)
    )
    for one, other in zip(answers, wanted, strict=True):
        for name in ("affinity", "uncertainty"):
            assert one.pop(name) == pytest.approx(other.pop(name), rel=1e-5, abs=1e-5)
        assert one == other


def test_the_bends_of_the_networks_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x = np.concatenate([np.linspace(-12, 12, 100_001), [0.0, -0.0, 1e4, -1e4]])
    x = x.astype(np.float32)
    wanted = torch.nn.functional.gelu(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(gelu(x.copy()), wanted, rtol=1e-6, atol=1e-6)


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
        ({"smiles": "CCO junk!!", "sequence": "MKV"}, "white space at position 4"),
        ({"ligand": "CCO |$x$|", "protein": "MKV"}, "white space at position 4"),
        ({"smiles": "C\u200b", "sequence": "MKV"}, r"U\+200B at position 2"),
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
        return Entity(name, False, np.zeros(1), np.zeros(1))

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
