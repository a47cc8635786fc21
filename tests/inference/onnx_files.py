"""ONNX graphs for tests, as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from inference.onnx_model import Predictor
from registry import imports, model_files, publish, store
from registry.models import ModelVersion

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
WIDTH = 6
Told = tuple[str, int, Sequence[Any]]


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Told],
    outputs: Sequence[Told],
    weights: Sequence[TensorProto] = (),
    **options: Any,
) -> ModelProto:
    sides = (
        [helper.make_tensor_value_info(*one) for one in side]
        for side in (inputs, outputs)
    )
    graph = helper.make_graph(list(nodes), "graph", *sides, list(weights))
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    domains += [helper.make_opsetid(one, 1) for one in options.pop("domains", ())]
    return helper.make_model(graph, opset_imports=domains, ir_version=9, **options)


def weight(width: int = WIDTH) -> Any:
    return np.linspace(-1, 1, width * 2).reshape(width, 2).astype(np.float32)


def perceptron(batch: Any = "batch") -> ModelProto:
    """y = tanh(x W), rows along the first axis."""
    return model(
        [
            helper.make_node("MatMul", ["x", "W"], ["h"]),
            helper.make_node("Tanh", ["h"], ["y"]),
        ],
        [("x", FLOAT, [batch, WIDTH])],
        [("y", FLOAT, [batch, 2])],
        [numpy_helper.from_array(weight(), "W")],
    )


def node(kind: str, inputs: Sequence[str] = ("x",), **attributes: Any) -> NodeProto:
    return helper.make_node(kind, list(inputs), ["y"], **attributes)


def make_version(name: str = "net", proto: ModelProto | None = None) -> ModelVersion:
    """A registered version of the graph, as an import makes it."""
    root = store.aside()
    root.mkdir(parents=True)
    content = (proto or perceptron()).SerializeToString()
    (root / "model.onnx").write_bytes(content)
    model_files.check(root)
    model_files.complete(root, Predictor.examine(root).signature)
    ready = imports.Ready(publish.prepare(root), {}, "m.onnx", "")
    return imports.register(ready, name, None)
