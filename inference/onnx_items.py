"""Items of an ONNX model: from JSON to arrays and back, and the schemas that say so."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.onnx_tensors import Axis, Graph, Tensor
from registry.errors import BadItem

Array = NDArray[Any]
EXAMPLE = 4096  # numbers of an example at most
KINDS = {"f": "iuf", "i": "iu", "u": "iu", "b": "b", "U": "U"}  # by that of the dtype
WORDS = {
    "f": "a number", "i": "a whole number", "u": "a whole number",
    "b": "true or false", "U": "a text",
}  # fmt: skip
NUMBERS = frozenset((int, float))
LEAVES: dict[str, frozenset[type]] = {
    "f": NUMBERS, "i": frozenset((int,)), "u": frozenset((int,)),
    "b": frozenset((bool,)), "U": frozenset((str,)),
}  # fmt: skip
TYPES = {"f": "number", "i": "integer", "u": "integer", "b": "boolean", "U": "string"}


class Rows(StrEnum):
    """How items become the graph's tensors."""

    TOGETHER = "together"  # many in one pass, along the first axis
    ALONE = "alone"  # one in each pass, the first axis being 1
    WHOLE = "whole"  # one in each pass, with all axes


def signature(graph: Graph, rows: Rows, examples: list[Any]) -> dict[str, Any]:
    """JSON Schemas of an item and an answer, and the graph's own tensors."""
    sides = (graph.inputs, graph.outputs)
    inputs, outputs = ([_told(one) for one in side] for side in sides)
    told: dict[str, Any] = {"inputs": inputs, "outputs": outputs, "rows": rows.value}
    if graph.has_loop:
        told["has_loop"] = True
    return {
        "inputs": _object(graph.inputs, rows) | {"additionalProperties": False},
        "outputs": _object(graph.outputs, rows),
        "tensors": told,
        "examples": examples,
    }


def tensors(told: dict[str, Any], side: str) -> tuple[Tensor, ...]:
    """The tensors that a signature tells of."""
    return tuple(
        Tensor(
            one["name"],
            one["dtype"],
            None if one["shape"] is None else tuple(one["shape"]),
        )
        for one in told["tensors"][side]
    )


def inner(tensor: Tensor, rows: Rows) -> tuple[Axis, ...]:
    """The axes of one item."""
    shape = tensor.shape or ()
    return shape if rows is Rows.WHOLE else shape[1:]


class Field:
    """Reads one input of an item."""

    def __init__(self, tensor: Tensor, rows: Rows) -> None:
        self.name, self.shape = tensor.name, inner(tensor, rows)
        self.dtype = dtype(tensor)
        self.kind = self.dtype.kind
        self.is_whole = self.kind in "iu"
        if self.is_whole:
            self.limits = np.iinfo(self.dtype)

    def read(self, value: Any) -> Array:
        """The array of the value. Raises BadItem that names the input."""
        try:
            array = np.array(value)
        except (ValueError, OverflowError, RecursionError, TypeError):
            raise self._unfit() from None
        if array.ndim != len(self.shape):
            raise self._unfit()
        for size, axis in zip(array.shape, self.shape, strict=True):
            if isinstance(axis, int) and size != axis:
                raise self._unfit()
        if array.size == 0:
            if 0 in (axis for axis in self.shape if isinstance(axis, int)):
                return array.astype(self.dtype)
            raise self._unfit()
        if array.dtype.kind not in KINDS[self.kind]:
            raise self._unfit()
        if not _has_only(value, LEAVES[self.kind]):
            raise self._unfit()
        if self.is_whole and (
            array.min() < self.limits.min or array.max() > self.limits.max
        ):
            raise BadItem(
                f"{self.name}: {self.limits.min} to {self.limits.max} can be held."
            )
        if self.kind == "U":
            return array.astype(object)
        with np.errstate(over="ignore"):
            found = array.astype(self.dtype)
        if self.kind == "f" and not np.isfinite(found).all():
            raise BadItem(f"{self.name}: a number is too large for {self.dtype}.")
        return found

    def _unfit(self) -> BadItem:
        what = WORDS[self.kind]
        if not self.shape:
            return BadItem(f"{self.name}: {what} is needed.")
        sizes = " x ".join(
            str(axis) if isinstance(axis, int) else "any" for axis in self.shape
        )
        return BadItem(f"{self.name}: lists of {sizes} are needed, of {what} each.")


def dtype(tensor: Tensor) -> np.dtype[Any]:
    return np.dtype("U") if tensor.dtype == "string" else np.dtype(tensor.dtype)


def answers(
    names: Sequence[str], outputs: Sequence[Array], count: int
) -> list[dict[str, Any]]:
    """One object of outputs for each row."""
    columns = [_plain(one) for one in outputs]
    return [
        {name: column[n] for name, column in zip(names, columns, strict=True)}
        for n in range(count)
    ]


def _plain(array: Array) -> list[Any]:
    found: list[Any] = array.tolist()
    return found


def _object(some: tuple[Tensor, ...], rows: Rows) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {one.name: _schema(one, rows) for one in some},
        "required": [one.name for one in some],
    }


def _schema(tensor: Tensor, rows: Rows) -> dict[str, Any]:
    kind = dtype(tensor)
    found: dict[str, Any] = {"type": TYPES[kind.kind]}
    if kind.kind in "iu" and kind.itemsize < 8:
        limits = np.iinfo(kind)
        found |= {"minimum": int(limits.min), "maximum": int(limits.max)}
    elif kind.kind == "u":
        found["minimum"] = 0
    if tensor.shape is None:
        return {}
    for axis in reversed(inner(tensor, rows)):
        found = {"type": "array", "items": found}
        if isinstance(axis, int):
            found |= {"minItems": axis, "maxItems": axis}
        else:
            found["minItems"] = 1
    return found


def _told(tensor: Tensor) -> dict[str, Any]:
    shape = None if tensor.shape is None else list(tensor.shape)
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": shape}


def _has_only(value: Any, leaves: frozenset[type]) -> bool:
    """Whether no other type hides within; NumPy takes true for one, and one for a text."""
    if not isinstance(value, list):
        return type(value) in leaves
    kinds = set(map(type, value)) - leaves
    return not kinds or (
        kinds == {list} and all(_has_only(one, leaves) for one in value)
    )
