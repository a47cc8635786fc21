"""Answers for a list of items: order kept, and a bad item costs its neighbours nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from inference.cache import Facts, Loaded
from inference.loading import use_one_thread
from inference.signature import why_unfit
from registry.errors import BadItem, Problem

log = logging.getLogger(__name__)

BATCH = 32  # items of one forward pass of a model that nobody has measured
INTERNAL = Problem(
    "internal", "The model failed on this item; the worker's log says why."
)
NOT_FINITE = Problem("internal", "The model has no finite answer for this item.")


def answer(
    model: Loaded,
    items: Sequence[Any],
    facts: Facts,
    *,
    batch: int | None = None,
) -> list[dict[str, Any]]:
    """One answer for each item, in order: the model's output, or `{error: {code, detail}}`.

    Nothing that an item does raises here, and no answer holds a path or a trace.
    """
    batch = batch or facts.batch or BATCH
    answers: list[dict[str, Any]] = [{} for _ in items]
    good: list[tuple[int, Any]] = []
    for index, item in enumerate(items):
        try:
            good.append((index, model.encode(item)))
        except Exception as error:
            problem = _why(error, item, facts)
            answers[index] = {"error": problem.as_dict()}
    with _ready_to_compute(model):
        for start in range(0, len(good), batch):
            some = good[start : start + batch]
            outputs = _predict(model, [one for _, one in some], facts.address)
            for (index, _), output in zip(some, outputs, strict=True):
                answers[index] = output
    return answers


def _ready_to_compute(model: Loaded) -> AbstractContextManager[Any]:
    """One thread and no gradients; torch stays away where no model needs it."""
    if not getattr(model, "uses_torch", True):
        return nullcontext()
    import torch

    use_one_thread()
    return torch.inference_mode()


def _predict(model: Loaded, encoded: list[Any], name: str) -> list[dict[str, Any]]:
    """Predict all at once; if that fails, by halves, so that only the culprits go without."""
    try:
        outputs = model.predict(encoded)
        if len(outputs) != len(encoded):
            raise ValueError(f"{len(outputs)} outputs for {len(encoded)} items")
        return [_sound(output, name) for output in outputs]
    except Exception as error:
        if len(encoded) == 1:
            problem = error if isinstance(error, BadItem) else INTERNAL
            if problem is INTERNAL:
                log.error("The model %s failed on an item", name, exc_info=error)
            return [{"error": problem.as_dict()}]
    half = len(encoded) // 2
    return _predict(model, encoded[:half], name) + _predict(model, encoded[half:], name)


def _sound(output: Any, name: str) -> dict[str, Any]:
    """The output if JSON can hold it."""
    if isinstance(output, dict) and _is_plain(output):
        return output
    log.error("The model %s gave an output that JSON cannot hold: %r", name, output)
    return {"error": NOT_FINITE.as_dict()}


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, str | bool | int)


def _why(error: Exception, item: Any, facts: Facts) -> Problem:
    """A bad item's own words, else what the signature says, else that the model failed."""
    if isinstance(error, BadItem):
        return error
    if text := why_unfit(facts.inputs, item):
        return BadItem(text)
    if isinstance(error, OverflowError | RecursionError):
        return BadItem("A number is too large, or the item is nested too deep.")
    log.error("The model %s cannot encode an item", facts.address, exc_info=error)
    return INTERNAL
