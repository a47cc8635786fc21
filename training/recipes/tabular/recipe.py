"""The recipe `tabular`: classification or regression from any CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from registry.errors import BadData, Problem
from registry.recipes import Params, Recipe
from registry.resources import GIB, Resources

MIN_ROWS = 10


class TabularParams(Params):
    """What may be chosen about a tabular model and its training."""

    target: str | None = Field(
        None, description="column to predict; the last one if not named"
    )
    task: Literal["auto", "classification", "regression"] = Field(
        "auto",
        description="auto: classification of texts, of two different values, and of "
        "at most 20 different whole numbers; regression otherwise",
    )
    fold_column: str | None = Field(
        None, description="column that names the split: rows with `test` are held out"
    )
    categories: list[str] = Field(
        [], description="columns to read as categories though they look like numbers"
    )
    max_categories: int = Field(
        64, ge=1, le=1000, description="categories kept per column, the most frequent"
    )
    test_fraction: float = Field(
        0.2, ge=0, le=0.5, description="share of the rows held out for the metrics"
    )
    validation_fraction: float = Field(
        0.125,
        ge=0.05,
        le=0.5,
        description="share of the training rows that each member does not learn from",
    )
    members: int = Field(8, ge=1, le=32, description="networks of each kind")
    hidden: list[Annotated[int, Field(ge=1, le=1024)]] = Field(
        [128, 128], max_length=6, description="widths of the hidden layers"
    )
    bins: int = Field(
        16, ge=0, le=128, description="piecewise-linear bins per number column"
    )
    dropout: float = Field(0.2, ge=0, le=0.9)
    epochs: int = Field(60, ge=1, le=10_000)
    batch_size: int | None = Field(
        None, ge=1, le=4096, description="64 to 512 by the number of rows if not named"
    )
    learning_rate: float = Field(4e-3, gt=0, le=1)
    weight_decay: float = Field(1e-2, ge=0, le=1)
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    warmup: float = Field(
        0.1, ge=0, le=0.9, description="share of the steps with a rising learning rate"
    )
    clip_norm: float | None = Field(
        None, gt=0, le=1000, description="largest norm of each member's gradient"
    )
    accumulation: int = Field(1, ge=1, le=64, description="batches per step")
    patience: int | None = Field(
        12, ge=1, le=10_000, description="epochs without improvement before the end"
    )


def check(columns: Sequence[str], params: TabularParams) -> None:
    """Raise Problem if a CSV with these columns cannot be used with these parameters."""
    for number, name in enumerate(columns, start=1):
        if not name.strip():
            raise BadData(f"column {number} of the header has no name")
    seen: set[str] = set()
    for name in columns:
        if name in seen:
            raise BadData("the header has this name twice", column=name)
        seen.add(name)
    if len(columns) < 2:
        raise BadData("there must be two columns at least, one of them the target")
    named = {
        "target": [] if params.target is None else [params.target],
        "fold_column": [] if params.fold_column is None else [params.fold_column],
        "categories": params.categories,
    }
    for parameter, names in named.items():
        for name in names:
            if name not in seen:
                known = ", ".join(columns[:20]) + ", ..." * (len(columns) > 20)
                text = f"There is no column {name[:100]!r}; there are {known}."
                raise Problem("invalid", text, errors={f"params.{parameter}": [text]})
    target = target_of(columns, params)
    if target == params.fold_column:
        text = f"The column {target!r} cannot be both the target and the fold."
        raise Problem("invalid", text, errors={"params.fold_column": [text]})
    if len(columns) == 2 and params.fold_column is not None:
        raise BadData("there is no column to predict from")


def target_of(columns: Sequence[str], params: TabularParams) -> str:
    """The column to predict: the named one, or the last."""
    return columns[-1] if params.target is None else params.target


_INPUTS: dict[str, Any] = {
    "type": "object",
    "description": "One row by column names; the model's signature names each column.",
    "additionalProperties": {"type": ["number", "string", "boolean", "null"]},
}
_CLASSIFICATION: dict[str, Any] = {
    "type": "object",
    "required": ["class", "probability", "probabilities"],
    "properties": {
        "class": {"type": ["string", "number"]},
        "probability": {"type": "number", "minimum": 0, "maximum": 1},
        "probabilities": {
            "type": "object",
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "other": {"type": "array", "items": {"type": "string"}},
    },
}
_REGRESSION: dict[str, Any] = {
    "type": "object",
    "required": ["value", "uncertainty"],
    "properties": {
        "value": {"type": "number"},
        "uncertainty": {"type": "number", "minimum": 0},
        "other": {"type": "array", "items": {"type": "string"}},
    },
}
OUTPUTS = {"classification": _CLASSIFICATION, "regression": _REGRESSION}

RECIPE = Recipe(
    name="tabular",
    summary="Classification or regression from any CSV",
    params=TabularParams,
    presets={
        "smoke_test": {"members": 1, "hidden": [32], "epochs": 5, "bins": 8},
        "prototyping": {},
        "validation": {"members": 16, "epochs": 80, "patience": 16},
        "production": {
            "members": 16,
            "hidden": [256, 256],
            "epochs": 120,
            "learning_rate": 2e-3,
            "patience": 24,
        },
    },
    inputs=_INPUTS,
    outputs={"oneOf": [_CLASSIFICATION, _REGRESSION]},
    check="training.recipes.tabular.recipe:check",
    fit="training.recipes.tabular.fit:fit",
    predictor="training.recipes.tabular.predictor:Predictor",
    resources=Resources(cpus=1, gpus=0, memory=1 * GIB),
)
