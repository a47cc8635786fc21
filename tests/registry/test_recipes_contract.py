"""What every recipe, built in or installed, keeps to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, get_args

import jsonschema
import pytest

from registry import recipes
from registry.errors import Problem
from registry.recipes import BUILT_IN, Mode, Params, Recipe

MODES = get_args(Mode)


@pytest.fixture(params=recipes.names())
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return recipes.get(request.param)


def test_the_built_in_recipes_are_there() -> None:
    assert set(recipes.names()) >= set(BUILT_IN) >= {"affinity", "tabular"}


def test_it_is_found_by_its_own_name(recipe: Recipe) -> None:
    assert recipes.get(recipe.name) is recipe
    assert recipe.summary


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_a_preset_of_valid_parameters(recipe: Recipe, mode: str) -> None:
    preset = recipe.presets[mode]
    params = recipe.validate({"mode": mode})
    assert params.mode == mode
    assert set(preset) <= set(recipe.params.model_fields)
    for name, value in preset.items():
        assert json.loads(json.dumps(getattr(params, name))) == value


def test_there_are_presets_for_known_modes_alone(recipe: Recipe) -> None:
    assert set(recipe.presets) == set(MODES)


def test_what_the_user_names_wins_over_the_preset(recipe: Recipe) -> None:
    assert issubclass(recipe.params, Params)
    for mode in MODES:
        for name in recipe.presets[mode]:
            default = recipe.params.model_fields[name].get_default()
            if default is not None:
                params = recipe.validate({"mode": mode, name: default})
                assert getattr(params, name) == default
    assert recipe.validate({"seed": 7}).seed == 7


BAD: dict[str, dict[str, Any]] = {
    "an extra name": {"colour": "red"},
    "an unknown mode": {"mode": "fast"},
    "a mode that is no text": {"mode": ["production"]},
    "a text for a number": {"seed": "7"},
    "a float for an integer": {"seed": 7.5},
    "a boolean for an integer": {"seed": True},
    "NaN": {"seed": float("nan")},
    "null": {"seed": None},
    "below its bound": {"seed": -1},
    "above its bound": {"seed": 2**31},
    "an object": {"seed": {}},
}


@pytest.mark.parametrize("case", BAD)
def test_parameters_out_of_bounds_are_named(recipe: Recipe, case: str) -> None:
    (name,) = BAD[case]
    with pytest.raises(Problem) as caught:
        recipe.validate(BAD[case])
    assert caught.value.code == "invalid"
    assert set(caught.value.errors) == {f"params.{name}"}
    assert name in caught.value.detail


def test_all_wrong_parameters_are_told_at_once(recipe: Recipe) -> None:
    with pytest.raises(Problem) as caught:
        recipe.validate({"seed": -1, "colour": "red"})
    assert set(caught.value.errors) == {"params.seed", "params.colour"}
    assert "mode" in caught.value.errors["params.colour"][0]  # the names there are


def test_every_number_has_bounds_and_refuses_what_is_not_finite(
    recipe: Recipe,
) -> None:
    properties = recipe.schema()["properties"]
    for name, told in properties.items():
        kinds = {one.get("type") for one in told.get("anyOf", [told])}
        if kinds & {"number", "integer"}:
            for odd in (float("nan"), float("inf"), -float("inf"), 1e300, -1e300):
                with pytest.raises(Problem):
                    recipe.validate({name: odd})


def test_every_parameter_is_described_or_at_least_bounded(recipe: Recipe) -> None:
    bounds = {"description", "enum", "minimum", "exclusiveMinimum"}
    for name, told in recipe.schema()["properties"].items():
        assert bounds & told.keys(), name


def test_its_schemas_are_json_schemas(recipe: Recipe) -> None:
    for schema in (recipe.schema(), recipe.inputs, recipe.outputs):
        jsonschema.Draft202012Validator.check_schema(dict(schema))
        json.dumps(schema, allow_nan=False)


def test_valid_parameters_pass_the_schema_that_is_shown(recipe: Recipe) -> None:
    shown = jsonschema.Draft202012Validator(recipe.schema())
    for mode in MODES:
        shown.validate(recipe.validate({"mode": mode}).model_dump(mode="json"))
    assert not shown.is_valid({"seed": -1})
    assert not shown.is_valid({"colour": "red"})


def test_parameters_are_values(recipe: Recipe) -> None:
    params = recipe.validate({})
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3  # type: ignore[misc]


def test_what_runs_is_named_by_modules_that_exist(recipe: Recipe) -> None:
    for path in (recipe.check, recipe.fit, recipe.predictor):
        module, _, name = path.partition(":")
        assert find_spec(module) is not None, path
        assert name.isidentifier()


def test_it_asks_for_what_a_small_node_has(recipe: Recipe) -> None:
    assert recipe.resources.cpus >= 1
    assert recipe.resources.gpus == 0


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_definition_loads_neither_torch_nor_django(name: str) -> None:
    code = (
        "import sys; from registry import recipes; "
        f"recipes.get({name!r}).validate({{}}); "
        "print([m for m in ('torch', 'django', 'rdkit') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Finding them


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with two recipes by entry points, one under a name that is taken."""
    points = [
        SimpleNamespace(name=name, value="tests.registry.test_recipes_contract:OTHER")
        for name in ("other", "tabular")
    ]
    monkeypatch.setattr(recipes, "entry_points", lambda group: points)
    recipes._paths.cache_clear()
    recipes.get.cache_clear()
    yield
    recipes._paths.cache_clear()
    recipes.get.cache_clear()


OTHER = Recipe(
    name="other",
    summary="Another one.",
    params=Params,
    presets={},
    inputs={},
    outputs={},
    check="x:check",
    fit="x:fit",
    predictor="x:Predictor",
)


def test_an_installed_recipe_is_found(installed: None) -> None:
    assert "other" in recipes.names()
    assert recipes.get("other").summary == "Another one."
    assert recipes.get("other").validate({"mode": "production"}).mode == "production"


def test_an_installed_recipe_takes_no_built_in_name(installed: None) -> None:
    assert recipes.get("tabular").name == "tabular"


@pytest.mark.parametrize("name", ["", "nope", "../affinity", "x" * 10_000])
def test_an_unknown_recipe_is_a_problem_that_names_those_there_are(name: str) -> None:
    with pytest.raises(Problem) as caught:
        recipes.get(name)
    assert caught.value.code == "unknown_recipe"
    assert "affinity" in caught.value.detail
    assert len(caught.value.detail) < 300
