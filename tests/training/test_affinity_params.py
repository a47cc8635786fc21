from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from registry import recipes
from registry.errors import Problem
from training.recipes.affinity.recipe import PRESETS, RECIPE


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"epochs": 10_001},
        {"epochs": 2.5},
        {"epochs": "3"},
        {"epochs": True},
        {"batch_size": 0},
        {"batch_size": 4097},
        {"batch_size": "large"},
        {"learning_rate": 0},
        {"learning_rate": 1.5},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"optimizer": "magic"},
        {"dropout": 1.0},
        {"weight_decay": -1},
        {"warmup": 1},
        {"clip_norm": 0},
        {"accumulation": 0},
        {"patience": 3, "validation_fraction": 0.0},
        {"patience": 0, "validation_fraction": 0.1},
        {"members": 0},
        {"blend": 1.1},
        {"blend": "some"},
        {"split": "warm"},
        {"test_fraction": 0},
        {"validation_fraction": 0.9},
        {"kernel_lambda": 0},
        {"mode": "fast"},
        {"mode": 3},
        {"seed": -1},
        {"colour": "red"},
    ],
)
def test_a_parameter_out_of_bounds_is_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        RECIPE.validate(values)
    assert caught.value.code == "invalid"
    assert caught.value.detail
    assert all(name.startswith("params") for name in caught.value.errors)


@pytest.mark.parametrize("mode", list(PRESETS))
def test_every_mode_is_valid_and_gives_way_to_what_is_named(mode: str) -> None:
    assert RECIPE.validate({"mode": mode}).model_dump()["mode"] == mode
    params = RECIPE.validate({"mode": mode, "epochs": 7, "members": 1}).model_dump()
    assert (params["epochs"], params["members"]) == (7, 1)


def test_the_schema_tells_bounds_and_presets() -> None:
    schema = RECIPE.schema()
    assert schema["properties"]["epochs"]["maximum"] == 10_000
    assert set(schema["presets"]) == set(PRESETS)
    assert all("description" in one for one in schema["properties"].values())


def test_the_recipe_is_found_by_name_and_its_paths_lead_somewhere() -> None:
    recipe = recipes.get("affinity")
    for path in (recipe.check, recipe.fit, recipe.predictor):
        assert callable(recipes.load(path))


def test_showing_and_checking_a_recipe_imports_nothing_heavy() -> None:
    code = (
        "import sys, training.data\n"
        "from registry import recipes\n"
        "recipe = recipes.load('training.recipes.affinity.recipe:RECIPE')\n"
        "recipes.load(recipe.check)(['smiles', 'sequence', 'affinity'], recipe.validate({}))\n"
        "print({'torch', 'rdkit', 'numpy', 'django'} & set(sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_fitting_knows_nothing_of_django() -> None:
    code = (
        "import sys, training.recipes.affinity.fit, training.recipes.affinity.predictor\n"
        "print('django' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
