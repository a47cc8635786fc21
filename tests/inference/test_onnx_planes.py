from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from inference.onnx_planes import widen
from tests.inference.onnx_files import FLOAT, model

SHAPE = ["b", 4, "n"]


def weight(name: str, *shape: int) -> TensorProto:
    rng = np.random.default_rng(len(name))
    return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)


def conv(x: str, w: str, y: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, w], [y], **attributes)


def graph(
    nodes: list[onnx.NodeProto], weights: list[TensorProto], outputs: int = 6
) -> onnx.ModelProto:
    told = ("x", FLOAT, SHAPE), ("y", FLOAT, ["b", outputs, "m"])
    return model(nodes, [told[0]], [told[1]], weights)


def run(proto: onnx.ModelProto) -> Any:
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(
        io.BytesIO(proto.SerializeToString()).getvalue(),
        providers=["CPUExecutionProvider"],
    )
    x = np.random.default_rng(7).normal(size=(3, 4, 17)).astype(np.float32)
    return session.run(None, {"x": x})


TWO = [weight("v", 8, 4, 5), weight("ww", 6, 8, 3)]
GRAPHS: dict[str, tuple[list[onnx.NodeProto], list[TensorProto], int, int]] = {
    "two with a function between them": (
        [conv("x", "v", "h"), helper.make_node("Relu", ["h"], ["r"]), conv("r", "ww", "y")],
        TWO, 2, 2,
    ),
    "pads, strides and dilations": (
        [conv("x", "v", "y", pads=[2, 1], strides=[2], dilations=[2], kernel_shape=[5])],
        [weight("v", 6, 4, 5)], 1, 2,
    ),
    "groups and no attributes": (
        [conv("x", "v", "y", group=2)], [weight("v", 6, 2, 3)], 1, 2,
    ),
    "a tensor between that something else needs": (
        [
            conv("x", "v", "h", pads=[2, 2]), helper.make_node("Tanh", ["h"], ["r"]),
            conv("r", "ww", "z", pads=[1, 1]), helper.make_node("Relu", ["z"], ["q"]),
            helper.make_node("ReduceMax", ["r"], ["m"], keepdims=1, axes=[1]),
            helper.make_node("Mul", ["q", "m"], ["y"]),
        ],
        TWO, 2, 3,
    ),
    "an input of two": (
        [conv("x", "v", "a"), conv("x", "w", "b"), helper.make_node("Add", ["a", "b"], ["y"])],
        [weight("v", 6, 4, 5), weight("w", 6, 4, 5)], 2, 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "weights", "count", "moves"), GRAPHS.values(), ids=GRAPHS
)
def test_a_graph_of_planes_answers_as_the_one_of_lines(
    nodes: list[onnx.NodeProto], weights: list[TensorProto], count: int, moves: int
) -> None:
    proto = graph(nodes, weights)
    before = run(proto)
    assert widen(proto) == count
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("Unsqueeze") + kinds.count("Squeeze") == moves
    for one, other in zip(run(proto), before, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_a_branch_takes_from_around_it_stands_there_as_it_was() -> None:
    inner = helper.make_graph(
        [helper.make_node("Neg", ["h"], ["o"])], "inner", [],
        [helper.make_tensor_value_info("o", FLOAT, None)],
    )  # fmt: skip
    nodes = [
        conv("x", "v", "h"),
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]
    true = numpy_helper.from_array(np.array(True), "c")
    proto = graph(nodes, [weight("v", 6, 4, 5), true])
    before = run(proto)
    assert widen(proto) == 1
    np.testing.assert_allclose(run(proto)[0], before[0], atol=1e-5)


def test_planes_and_shared_weights_and_old_graphs_are_left_as_they_are() -> None:
    shared = graph(
        [conv("x", "v", "a", pads=[2, 2]), conv("a", "v", "y")],
        [weight("v", 4, 4, 5)],
        4,
    )
    old = graph([conv("x", "v", "y")], [weight("v", 6, 4, 5)])
    old.opset_import[0].version = 12
    for proto in (shared, old):
        before = proto.SerializeToString(deterministic=True)
        assert widen(proto) == 0
        assert proto.SerializeToString(deterministic=True) == before
