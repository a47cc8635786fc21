"""Writes a model's network as what other engines read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.engines import EXPORTED, ONNX, Tensors, Tunable, open_onnx

log = logging.getLogger(__name__)

PASSES = 20  # by which the forms of a graph are compared
LARGEST_BATCH = 65_536  # rows that an exported graph takes


def export(model: Tunable, tensors: Tensors, file: Path) -> None:
    """Write the network as a program for any number of rows; `tensors` have two at least."""
    import torch

    torch.export.save(_program(model, tensors), file)


def export_onnx(model: Tunable, tensors: Tensors, file: Path) -> None:
    """Write the network as an ONNX graph for any number of rows, in its quickest form."""
    write(model, tensors, file)
    others: list[Path] = []
    try:
        others += write_forms(file).values()
        if others:
            min([file, *others], key=lambda one: _takes(one, tensors)).replace(file)
    except Exception:
        log.exception("The graph stays as it is")
    finally:
        for other in others:
            other.unlink(missing_ok=True)


def write(model: Tunable, tensors: Tensors, file: Path) -> None:
    """Write the network as an ONNX graph for any number of rows, as torch puts it."""
    import torch

    exported = torch.onnx.export(
        _program(model, tensors), dynamo=True, verbose=False, optimize=True
    )
    assert exported is not None
    exported.save(str(file), external_data=False)


def write_forms(file: Path) -> dict[str, Path]:
    """Write the other forms that the graph may have beside it, by their names."""
    import onnx

    written = {}
    for name, form in FORMS.items():
        graph = onnx.load(file)
        if form(graph):
            written[name] = file.with_name(f"{name}-{file.name}")
            onnx.save(graph, written[name])
    return written


def _planes(graph: Any) -> int:
    from inference import onnx_planes

    return onnx_planes.widen(graph)


def _lookups(graph: Any) -> int:
    """Lookups first, for a plane is no line any more; then planes of what is left."""
    from inference import onnx_lookups

    count = onnx_lookups.look_up(graph)
    return count + _planes(graph) if count else 0


FORMS: dict[str, Callable[[Any], int]] = {"planes": _planes, "lookups": _lookups}


def _takes(file: Path, tensors: Tensors) -> float:
    """The least seconds of processor time of a few passes."""
    run, took = open_onnx(file), []
    run(tensors)
    for _ in range(PASSES):
        began = time.process_time()
        run(tensors)
        took.append(time.process_time() - began)
    return min(took)


def _program(model: Tunable, tensors: Tensors) -> Any:
    import torch

    rows = torch.export.Dim("rows", min=1, max=LARGEST_BATCH)
    shapes = tuple({0: rows} for _ in tensors)
    with torch.no_grad():
        return torch.export.export(model.network, tensors, dynamic_shapes=shapes)


MAKE: dict[str, Callable[[Tunable, Tensors, Path], None]] = {
    EXPORTED: export, ONNX: export_onnx,
}  # fmt: skip
