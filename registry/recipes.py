"""Recipes as data: what can be trained, with which parameters, for which items.

A definition imports neither torch nor Django, so that the web may show it; its `fit` and
`predictor` are dotted paths, loaded where they run. Other packages add recipes by the entry
point group `compass.recipes`, whose names map to `module:RECIPE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.errors import Problem
from registry.resources import GIB, Resources

BUILT_IN = {
    "affinity": "training.recipes.affinity.recipe:RECIPE",
    "tabular": "training.recipes.tabular.recipe:RECIPE",
}
Mode = Literal["smoke_test", "prototyping", "validation", "production"]


class Params(BaseModel):
    """Parameters that every recipe has; a recipe adds its own with bounds."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True
    )

    mode: Mode = Field("prototyping", description="preset of all other parameters")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of every random choice")


@dataclass(frozen=True)
class Recipe:
    """One way from a data file to a model.

    `presets` maps a mode to parameter values that the mode chooses; what the user names wins.
    `inputs` and `outputs` are JSON Schemas of one item and one answer. `check` (columns, params)
    raises Problem if a CSV with these columns cannot be used. `fit` is `module:function`
    (params, dataset, context); `predictor` is `module:class` with `load(directory, device)`.
    """

    name: str
    summary: str
    params: type[Params]
    presets: Mapping[str, Mapping[str, Any]]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    check: str
    fit: str
    predictor: str
    resources: Resources = field(default_factory=lambda: Resources(1, 0, 1 * GIB))

    def validate(self, values: Mapping[str, Any]) -> Params:
        """Parameters with the mode's preset below the user's values.

        Raises Problem `invalid`, with a sentence by field as `params.NAME`.
        """
        mode = values.get("mode", self.params.model_fields["mode"].default)
        preset = self.presets.get(mode, {}) if isinstance(mode, str) else {}
        try:
            return self.params.model_validate({**preset, **values})
        except ValidationError as error:
            errors: dict[str, list[str]] = {}
            for one in error.errors():
                name = ".".join(str(part) for part in ("params", *one["loc"]))
                errors.setdefault(name, []).append(_sentence(one, self))
            raise Problem(
                "invalid", "; ".join(t[0] for t in errors.values()), errors=errors
            ) from None

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of `params`, with the presets beside."""
        return {
            **self.params.model_json_schema(),
            "presets": {k: dict(v) for k, v in self.presets.items()},
        }


def names() -> list[str]:
    """The names of all recipes, built in or installed."""
    return sorted(_paths())


@cache
def get(name: str) -> Recipe:
    """The recipe of that name. Raises Problem `unknown_recipe`."""
    path = _paths().get(name)
    if path is None:
        raise Problem(
            "unknown_recipe",
            f"There is no recipe {name[:100]!r}; there are {', '.join(names())}.",
            errors={"recipe": ["unknown"]},
        )
    recipe = load(path)
    assert isinstance(recipe, Recipe)
    return recipe


def load(path: str) -> Any:
    """The object at a dotted path `module:name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


@cache
def _paths() -> dict[str, str]:
    found = {one.name: one.value for one in entry_points(group="compass.recipes")}
    return found | BUILT_IN


def _sentence(error: Any, recipe: Recipe) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(recipe.params.model_fields))
        return f"{name} is not a parameter of {recipe.name}; there are {known}"
    text = error["msg"].replace("Input should", "should")
    return f"{name} {text[0].lower() + text[1:]}"
