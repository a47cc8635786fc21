"""Answers for a list of items: order kept, and a bad item costs its neighbours nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

from inference import outline, stop
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

    Nothing that an item does raises here, and no answer holds a path or a trace. Raises Stopped.
    """
    batch = batch or facts.batch or BATCH
    answers: list[dict[str, Any]] = []
    for start in range(0, len(items), batch):
        some = encode(model, items[start : start + batch], facts)
        answers += predict(model, some, facts)
    return answers


@dataclass(frozen=True)
class Encoded:
    """Items as the model reads them; `bad` are those that it cannot, by their place."""

    good: list[Any]
    bad: list[tuple[int, Problem]]

    def __len__(self) -> int:
        return len(self.good) + len(self.bad)


def encode(model: Loaded, items: Sequence[Any], facts: Facts) -> Encoded:
    """The first half of an answer."""
    shape = outline.of(facts.digest, facts.inputs)
    good: list[Any] = []
    bad: list[tuple[int, Problem]] = []
    try:
        if shape.are_met(items):
            return Encoded(_encoded(model, items), bad)
    except Exception as error:  # of one of them, or more
        log.debug("The items are encoded one by one: %s", error)
    for index, item in enumerate(items):
        try:
            encoded = model.encode(item)
            if not shape.is_met(item) and (text := why_unfit(facts.inputs, item)):
                raise BadItem(text)
            good.append(encoded)
        except Exception as error:
            bad.append((index, _why(error, item, facts)))
    return Encoded(good, bad)


def together(some: Sequence[Encoded]) -> Encoded:
    """The items of all, one behind the other."""
    good: list[Any] = []
    bad: list[tuple[int, Problem]] = []
    for one in some:
        before = len(good) + len(bad)
        good += one.good
        bad += [(before + index, problem) for index, problem in one.bad]
    return Encoded(good, bad)


def predict(
    model: Loaded, encoded: Encoded, facts: Facts, *, batch: int = 0
) -> list[dict[str, Any]]:
    """The second half, `batch` items a pass; perhaps in another thread. Raises Stopped."""
    good, answers = encoded.good, list[dict[str, Any]]()
    batch = batch or len(good) or 1
    with _ready_to_compute(model):
        for start in range(0, len(good), batch):
            answers += _predict(model, good[start : start + batch], facts.address)
    for index, problem in encoded.bad:
        answers.insert(index, {"error": problem.as_dict()})
    return answers


def _ready_to_compute(model: Loaded) -> AbstractContextManager[Any]:
    """One thread and no gradients; torch stays away where no model needs it."""
    if not getattr(model, "uses_torch", True):
        return nullcontext()
    import torch

    use_one_thread()
    return torch.inference_mode()


def _encoded(model: Loaded, items: Sequence[Any]) -> list[Any]:
    """All of them, at once if the model can. Raises whatever the worst of them makes it raise."""
    if (encode_all := getattr(model, "encode_all", None)) is not None:
        encoded: list[Any] = encode_all(items)
        if len(encoded) == len(items):
            return encoded
    encode = model.encode
    return [encode(item) for item in items]


def _predict(model: Loaded, encoded: list[Any], name: str) -> list[dict[str, Any]]:
    """Predict all at once; if that fails, by halves, so that only the culprits go without."""
    stop.look()
    try:
        outputs = model.predict(encoded)
        if len(outputs) != len(encoded):
            raise ValueError(f"{len(outputs)} outputs for {len(encoded)} items")
        if _are_numbers(outputs):
            return outputs
        return [_sound(output, name) for output in outputs]
    except stop.Stopped:
        raise
    except Exception as error:
        if len(encoded) == 1:
            problem = error if isinstance(error, BadItem) else INTERNAL
            if problem is INTERNAL:
                log.error("The model %s failed on an item", name, exc_info=error)
            return [{"error": problem.as_dict()}]
    half = len(encoded) // 2
    return _predict(model, encoded[:half], name) + _predict(model, encoded[half:], name)


def _are_numbers(outputs: list[Any]) -> bool:
    """Whether all hold finite floats and nothing else; what is not so is looked at one by one."""
    if set(map(type, outputs)) != {dict}:
        return False
    values = list(chain.from_iterable(map(dict.values, outputs)))
    names = set(map(type, chain.from_iterable(outputs)))
    is_float = set(map(type, values)) == {float} and names == {str}
    return is_float and math.isfinite(sum(values))  # infinite and NaN stay in a sum


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
        # Its traceback holds the items that stand beside it, and is held by them.
        error.__traceback__ = error.__context__ = None
        return error
    if text := why_unfit(facts.inputs, item):
        return BadItem(text)
    if isinstance(error, OverflowError | RecursionError):
        return BadItem("A number is too large, or the item is nested too deep.")
    log.error("The model %s cannot encode an item", facts.address, exc_info=error)
    return INTERNAL
