"""What a model's network can run on: torch as it is, an exported program, ONNX Runtime.

A predictor takes part by three things beside `encode` and `predict`: `network` (a torch
module), `tensors(encoded)` (its arguments, the items along the first axis) and
`answers(encoded, outputs)`. Any other predictor runs as it is.

torch takes 200 MB of a process. With a class method `without_torch(directory)` a predictor gives
one whose tensors and answers are numpy's, and that has no network: ONNX Runtime is all it needs.
If that one has a `predict` of its own, it needs no engine at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from inference import stop
from inference.cache import Facts, Loaded
from inference.memory import GPU_DRIVER
from registry import store

log = logging.getLogger(__name__)

EAGER, EXPORTED, ONNX = "eager", "exported", "onnx"
NAMES = (EAGER, EXPORTED, ONNX)
FILES = {EXPORTED: "network.pt2", ONNX: "network.onnx"}
NEARLY = 1.03  # times the least
BEYOND = 4  # times the largest batch that was measured

Tensors = tuple[Any, ...]
Run = Callable[[Tensors], Tensors]


@runtime_checkable
class Tunable(Protocol):
    """A predictor whose network may run on another engine."""

    nbytes: int
    network: Any

    def encode(self, item: Any) -> Any: ...

    def predict(self, encoded: list[Any]) -> list[dict[str, Any]]: ...

    def tensors(self, encoded: list[Any]) -> Tensors: ...

    def answers(self, encoded: list[Any], outputs: Tensors) -> list[dict[str, Any]]: ...


class Tuned:
    """A predictor whose network runs on another engine."""

    def __init__(self, model: Any, run: Run, nbytes: int) -> None:
        self.model, self.run, self.encode = model, run, model.encode
        self.nbytes = model.nbytes + nbytes
        self.uses_torch = getattr(model, "uses_torch", True)
        if (encode_all := getattr(model, "encode_all", None)) is not None:
            self.encode_all = encode_all

    def predict(self, encoded: list[Any]) -> list[dict[str, Any]]:
        outputs = self.run(self.model.tensors(encoded))
        answers: list[dict[str, Any]] = self.model.answers(encoded, outputs)
        return answers


def own(model: Any) -> str:
    """The engine that the predictor runs on by itself."""
    return str(getattr(model, "engine", EAGER))


def path(digest: str, name: str) -> Path:
    """Where the network of the model of that digest stands, made ready for that engine."""
    return store.root() / "engines" / digest / FILES[name]


def bulk(verdict: Mapping[str, Any]) -> int:
    """The items of a pass that cost the least each, by the figures of a verdict; 0 without any.

    Of sizes that cost nearly the same it is the smallest, whose numbers stay in the cache of a
    core. Where the cost still fell at the largest size that was measured, it is some times that.
    """
    for one in verdict.get("candidates") or ():
        if one["name"] == verdict.get("name") and (times := one.get("seconds_a_row")):
            enough = min(times.values()) * NEARLY
            size = min(int(size) for size, took in times.items() if took <= enough)
            is_largest = size == max(map(int, times))
            return size * BEYOND if is_largest else size
    return 0


def mount(model: Loaded, facts: Facts) -> Loaded:
    """The model on the engine that was chosen for it; as it is if that cannot be had."""
    if facts.engine in (EAGER, own(model)) or not isinstance(model, Tunable):
        return model
    try:
        return _tuned(model, facts)
    except Exception:
        log.exception(
            "%s cannot run on %s; it runs eagerly", facts.address, facts.engine
        )
        return model


def load_without_torch(predictor: Any, directory: Path, facts: Facts) -> Loaded | None:
    """The version on ONNX Runtime, or where there is no GPU by its predictor alone; None if that
    cannot be had."""
    light = getattr(predictor, "without_torch", None)
    if light is None:
        return None
    try:
        if facts.engine == ONNX:
            return _tuned(light(directory), facts)
        model: Loaded = light(directory)
        is_whole = hasattr(model, "predict") and not GPU_DRIVER.exists()
        return model if is_whole else None
    except Exception:
        log.exception("%s is loaded with torch", facts.address)
        return None


def _tuned(model: Any, facts: Facts) -> Tuned:
    file = path(facts.digest, facts.engine)
    if store.file_sha256(file) != facts.engine_sha256:
        raise ValueError(f"{file} is not the file that was measured")
    return Tuned(model, OPEN[facts.engine](file), file.stat().st_size)


def eager(model: Tunable) -> Run:
    def run(tensors: Tensors) -> Tensors:
        return as_tuple(model.network(*tensors))

    return run


def open_exported(file: Path) -> Run:
    import torch

    module = torch.export.load(file).module()

    def run(tensors: Tensors) -> Tensors:
        return as_tuple(module(*tensors))

    return run


def open_onnx(file: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(file), options, providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_inputs()]

    def run(tensors: Tensors) -> Tensors:
        if not hasattr(tensors[0], "numpy"):  # they are numpy's own
            given = dict(zip(names, tensors, strict=True))
            return tuple(stop.run(session, None, given))
        import torch

        given = {name: one.numpy() for name, one in zip(names, tensors, strict=True)}
        return tuple(map(torch.from_numpy, stop.run(session, None, given)))

    return run


OPEN: dict[str, Callable[[Path], Run]] = {EXPORTED: open_exported, ONNX: open_onnx}


def as_tuple(outputs: Any) -> Tensors:
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
