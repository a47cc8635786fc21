"""An ONNX file as a model: a graph of standard operators, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime

from inference import onnx_items, stop
from inference.onnx_items import EXAMPLE, Array, Field, Rows
from inference.onnx_tensors import Graph, Tensor
from registry.errors import BadItem, Problem

FILE, SIGNATURE = "model.onnx", "signature.json"
SIZES = (1, 2, 3, 4, 8, 16, 32, 64, 128, 224)  # tried for axes that may have any size
TOLERANCE = 1e-4  # of an output, relative where it is larger than one
LONGEST = 5.0  # seconds of a pass through a graph with loops
OVERHEAD = 512 * 1024  # bytes of a session besides its weights
MOST = (
    8 * 1024**2
)  # numbers of the answers of a pass; no other thread runs while they are read
Encoded = tuple[Array, ...]


class Endless(BadItem):
    """A loop of the graph that does not end, or takes too long."""


class TooMuch(BadItem):
    """The answer is longer than any that is given."""


class Predictor:
    """Answers items that name the graph's inputs, with its outputs by their names."""

    engine = "onnx"
    uses_torch = False

    def __init__(self, session: Any, signature: dict[str, Any], size: int) -> None:
        self.session, self.signature = session, signature
        self.rows = Rows(signature["tensors"]["rows"])
        inputs = onnx_items.tensors(signature, "inputs")
        self.fields = [Field(one, self.rows) for one in inputs]
        self.names = [one.name for one in self.fields]
        self._known = frozenset(self.names)
        self.outputs = [one.name for one in onnx_items.tensors(signature, "outputs")]
        self.has_loop = bool(signature["tensors"].get("has_loop"))
        self.nbytes = 2 * size + OVERHEAD  # the weights, and packed for the kernels

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Self:
        """The model of a directory that was examined before it was registered.

        Raises Problem `model_unavailable`.
        """
        try:
            told = json.loads((directory / SIGNATURE).read_bytes())
            file = directory / FILE
            return cls(_open(str(file)), told, file.stat().st_size)
        except (OSError, ValueError, KeyError, TypeError, Problem) as error:
            text = f"The model's files do not fit together: {error}"
            raise Problem("model_unavailable", text) from error

    @classmethod
    def examine(cls, directory: Path) -> Self:
        """The model of a stranger's file, with the signature that its graph tells.

        Raises Problem `bad_model`, `unsafe_model`.
        """
        from inference import onnx_graph  # whoever only serves needs no parser

        content = (directory / FILE).read_bytes()
        graph = onnx_graph.read(content)
        # From the bytes: there is no place that the graph could look beside.
        session = _open(content)
        rows, items = _tried(cls, session, graph)
        told = onnx_items.signature(graph, rows, items)
        return cls(session, told, len(content))

    def encode(self, item: Any) -> Encoded:
        """The arrays of one item. Raises BadItem that names the input."""
        if not isinstance(item, dict):
            raise BadItem("An item must be an object with named values.")
        if item.keys() != self._known:
            for name in self.names:
                if name not in item:
                    raise BadItem(f"{name}: is missing.")
            extra = next(name for name in item if name not in self._known)
            raise BadItem(f"{str(extra)[:100]}: the model has no such input.")
        return tuple(one.read(item[one.name]) for one in self.fields)

    def predict(self, encoded: Sequence[Encoded]) -> list[dict[str, Any]]:
        """One answer for each item, in order; items of one shape go together if they may."""
        answers: list[dict[str, Any]] = [{} for _ in encoded]
        for number, places in enumerate(self._passes(encoded)):
            if number:
                stop.look()
            some = [encoded[n] for n in places]
            found = onnx_items.answers(self.outputs, self._run(some), len(some))
            for n, one in zip(places, found, strict=True):
                answers[n] = one
        return answers

    def _passes(self, encoded: Sequence[Encoded]) -> Iterator[list[int]]:
        if self.rows is not Rows.TOGETHER:
            yield from ([n] for n in range(len(encoded)))
            return

        def shapes(n: int) -> list[tuple[int, ...]]:
            return [one.shape for one in encoded[n]]

        for _, places in groupby(sorted(range(len(encoded)), key=shapes), key=shapes):
            yield list(places)

    def _run(self, some: Sequence[Encoded]) -> list[Array]:
        """The outputs with the items along a first axis. Raises ValueError if they have not as many."""
        columns = zip(*some, strict=True)
        if self.rows is Rows.WHOLE:
            given = [column[0] for column in columns]
        else:
            given = [np.stack(column) for column in columns]
        outputs = self._pass(dict(zip(self.names, given, strict=True)))
        count = sum(np.size(one) for one in outputs)
        if count > MOST:
            raise TooMuch(
                f"The answer has {count:,} values; at most {MOST:,} are given."
            )
        if self.rows is Rows.WHOLE:
            return [np.asarray(one)[None] for one in outputs]
        for one in outputs:
            if np.ndim(one) == 0 or len(one) != len(some):
                raise ValueError(f"{np.shape(one)} is not one row for each item")
        return list(outputs)

    def _pass(self, given: dict[str, Array]) -> list[Any]:
        """One run of the graph. Raises BadItem if it has loops and does not come to an end."""
        longest = LONGEST if self.has_loop else math.inf
        try:
            return stop.run(self.session, self.outputs, given, longest)
        except stop.TooLong:
            raise Endless(f"The graph did not end within {LONGEST:g} s.") from None


def _open(model: str | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # How much a pass takes may depend on its items, and an arena never gives it back.
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        text = f"ONNX Runtime cannot take the graph: {error}"
        raise Problem("bad_model", text) from None


def _tried(
    cls: type[Predictor], session: Any, graph: Graph
) -> tuple[Rows, list[dict[str, Any]]]:
    """How items may become its tensors, as far as passes with made-up items show, and examples."""
    may = _possible(graph)
    for rows in may:
        told = onnx_items.signature(graph, rows, [])
        model = cls(session, told, 0)
        for size in SIZES if _is_open(graph, rows) else (1,):
            items = [_made_up(graph, rows, size, seed) for seed in range(2)]
            try:
                encoded = [model.encode(one) for one in items]
                alone = [model.predict([one])[0] for one in encoded]
                both = model.predict(encoded)
            except Endless as error:
                raise Problem("bad_model", error.detail) from None
            except Exception as error:
                if isinstance(error, MemoryError) or "alloc" in str(error).lower():
                    raise
                continue
            if all(_are_near(a, b) for a, b in zip(alone, both, strict=True)):
                return rows, [one for one in items if _count(one) <= EXAMPLE]
            break
    return may[-1] if Rows.ALONE not in may else Rows.ALONE, []


def _possible(graph: Graph) -> list[Rows]:
    """The ways that the shapes allow, the best first."""
    first = [one.shape[0] if one.shape else 0 for one in graph.inputs]
    ends = [
        None if one.shape is None else (one.shape or [0])[0] for one in graph.outputs
    ]
    found = []
    if not any(isinstance(axis, int) for axis in [*first, *ends]):
        found.append(Rows.TOGETHER)
    if all(axis == 1 or not isinstance(axis, int) for axis in [*first, *ends]):
        found.append(Rows.ALONE)
    return [*found, Rows.WHOLE]


def _is_open(graph: Graph, rows: Rows) -> bool:
    axes = [axis for one in graph.inputs for axis in onnx_items.inner(one, rows)]
    return any(not isinstance(axis, int) for axis in axes)


def _made_up(graph: Graph, rows: Rows, size: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {one.name: _values(one, rows, size, random) for one in graph.inputs}


def _values(tensor: Tensor, rows: Rows, size: int, random: np.random.Generator) -> Any:
    axes = onnx_items.inner(tensor, rows)
    shape = [axis if isinstance(axis, int) else size for axis in axes]
    kind = onnx_items.dtype(tensor).kind
    if kind == "f":
        return np.round(random.standard_normal(shape), 3).tolist()
    bits = random.integers(0, 2, shape)
    if kind == "U":
        return np.where(bits == 0, "a", "b").tolist()
    return (bits == 1).tolist() if kind == "b" else bits.tolist()


def _are_near(one: dict[str, Any], other: dict[str, Any]) -> bool:
    for name, value in one.items():
        a, b = np.asarray(value), np.asarray(other[name])
        if a.shape != b.shape:
            return False
        if a.dtype.kind != "f":
            if not (a == b).all():
                return False
        elif not np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            return False
    return True


def _count(item: dict[str, Any]) -> int:
    return sum(np.size(value) for value in item.values())
