"""Which items a model takes, by the JSON Schema of its signature."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from django.db.models import OuterRef, Subquery
from jsonschema import Draft202012Validator
from referencing import Registry

from registry.errors import Problem
from registry.models import ModelVersion

log = logging.getLogger(__name__)

LOOKED_AT = 100  # items looked at, spread over all of them
TRIED = 200  # models
LONGEST = 200  # characters of a reason


def newest_that_fits(
    inputs: Sequence[Any], also: Callable[[ModelVersion], bool] = lambda version: True
) -> ModelVersion:
    """The newest version, among each model's newest, whose signature fits all items.

    Where none fits all, the one that fits most of them; `also` may rule versions out. Raises
    Problem `no_model_fits`.
    """
    some = inputs[:: max(1, len(inputs) // LOOKED_AT)]
    newest = ModelVersion.objects.filter(model=OuterRef("model")).order_by("-number")
    rows = ModelVersion.objects.filter(number=Subquery(newest.values("number")[:1]))
    best, most = None, 0
    for row in rows.select_related("model").order_by("-created_at", "-pk")[:TRIED]:
        if not also(row):
            continue
        fitting = sum(fits(row.signature.get("inputs", {}), item) for item in some)
        if fitting > most:
            best, most = row, fitting
        if fitting == len(some):
            break
    if best is None:
        raise Problem(
            "no_model_fits",
            "No model has a signature that fits the inputs; name one with `model`.",
            errors={"model": ["none fits the inputs"]},
        )
    return best


def fits(schema: Mapping[str, Any], item: Any) -> bool:
    """Whether the item is an object that the schema takes."""
    return isinstance(item, dict) and why_unfit(schema, item) == ""


def why_unfit(schema: Mapping[str, Any], item: Any) -> str:
    """What the schema has against the item, as one sentence; empty if nothing."""
    if not isinstance(item, dict):
        return "An item must be an object with named values."
    try:
        error = next(_validator(json.dumps(schema)).iter_errors(item), None)
    except Exception:  # a schema of somebody else's making
        log.exception("A signature cannot be used")
        return "The model's signature cannot be used."
    if error is None:
        return ""
    place = ".".join(str(part) for part in error.absolute_path)
    text = error.message if len(error.message) <= LONGEST else _short(error)
    return f"{place}: {text}." if place else f"{text}."


def _short(error: Any) -> str:
    return f"the value does not meet the signature's {error.validator!r}"[:LONGEST]


@lru_cache(maxsize=256)
def _validator(schema: str) -> Draft202012Validator:
    # A registry of its own and nothing in it: no reference is fetched from anywhere.
    return Draft202012Validator(json.loads(schema), registry=Registry())
