from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from inference import onnx_lookups
from inference.onnx_lookups import look_up
from tests.inference.onnx_files import FLOAT, model

LETTERS = 9
Node = onnx.NodeProto


def weight(name: str, *shape: int, kind: Any = np.float32) -> TensorProto:
    rng = np.random.default_rng(len(name))
    return numpy_helper.from_array(rng.normal(size=shape).astype(kind), name)


def read(x: str = "x", y: str = "t") -> list[Node]:
    """Letters, as channels along the places."""
    return [
        helper.make_node("Gather", ["e", x], [f"{y}_rows"]),
        helper.make_node("Transpose", [f"{y}_rows"], [y], perm=[0, 2, 1]),
    ]


def conv(x: str, w: str, y: str, *bias: str, **attributes: Any) -> Node:
    return helper.make_node("Conv", [x, w, *bias], [y], **attributes)


def graph(nodes: list[Node], *weights: TensorProto) -> onnx.ModelProto:
    told = ("x", TensorProto.INT64, ["b", "n"]), ("y", FLOAT, ["b", None, None])
    rows = () if any(one.name == "e" for one in weights) else (weight("e", LETTERS, 4),)
    return model(nodes, [told[0]], [told[1]], [*rows, *weights])


def run(proto: onnx.ModelProto, letters: Any = None) -> Any:
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    if letters is None:
        letters = np.random.default_rng(7).integers(0, LETTERS, (3, 17))
    return session.run(None, {"x": letters})[0]


GRAPHS: dict[str, tuple[list[Node], list[TensorProto], int]] = {
    "a convolution with a bias": (
        [*read(), conv("t", "v", "y", "bias", kernel_shape=[5])],
        [weight("v", 6, 4, 5), weight("bias", 6)], 1,
    ),
    "pads, strides and dilations": (
        [*read(), conv("t", "v", "y", "bias", pads=[3, 1], strides=[3], dilations=[2])],
        [weight("v", 6, 4, 5), weight("bias", 6)], 1,
    ),
    "a kernel of one place": ([*read(), conv("t", "v", "y")], [weight("v", 6, 4, 1)], 1),
    "two of one embedding": (
        [
            *read(), conv("t", "v", "a"), conv("t", "ww", "b", pads=[1, 1], auto_pad="NOTSET"),
            helper.make_node("ReduceMax", ["b"], ["m"], axes=[2]),
            helper.make_node("Add", ["a", "m"], ["y"]),
        ],
        [weight("v", 6, 4, 5), weight("ww", 6, 4, 5)], 2,
    ),
    "one after the other": (
        [*read(), conv("t", "v", "a"), conv("a", "ww", "y")],
        [weight("v", 8, 4, 5), weight("ww", 6, 8, 3)], 1,
    ),
    "an embedding that something else needs": (
        [
            *read(), conv("t", "v", "a", pads=[2, 2]), helper.make_node("Add", ["a", "t"], ["y"]),
        ],
        [weight("v", 4, 4, 5)], 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "weights", "count"), GRAPHS.values(), ids=GRAPHS)
def test_rows_of_tables_add_up_to_what_the_convolution_gives(
    nodes: list[Node], weights: list[TensorProto], count: int
) -> None:
    proto = graph(nodes, *weights)
    before, convolutions = run(proto), _count(proto, "Conv")
    assert look_up(proto) == count
    assert _count(proto, "Conv") == convolutions - count
    found = run(proto)
    assert found.shape == before.shape
    np.testing.assert_allclose(found, before, atol=1e-5)


def test_nothing_is_kept_that_nobody_needs() -> None:
    proto = graph([*read(), conv("t", "v", "y")], weight("v", 6, 4, 2))
    assert look_up(proto) == 1
    needed = {name for node in proto.graph.node for name in node.input}
    assert {one.name for one in proto.graph.initializer} == needed - {"x"} - {
        name for node in proto.graph.node for name in node.output
    }
    assert _count(proto, "Gather") == 2
    assert _count(proto, "Transpose") == 1


@pytest.mark.parametrize("pads", [[0, 0], [2, 2]])
def test_a_letter_beyond_the_embedding_stays_an_error(pads: list[int]) -> None:
    proto = graph([*read(), conv("t", "v", "y", pads=pads)], weight("v", 6, 4, 5))
    last, beyond = (np.full((1, 9), one) for one in (LETTERS - 1, LETTERS))
    backwards = np.full((1, 9), -1)
    wanted = run(proto, last)
    assert look_up(proto) == 1
    np.testing.assert_allclose(run(proto, last), wanted, atol=1e-5)
    np.testing.assert_allclose(run(proto, backwards), wanted, atol=1e-5)
    with pytest.raises(InvalidArgument):
        run(proto, beyond)


def test_what_a_branch_takes_from_around_it_stands_there_as_it_was() -> None:
    inner = helper.make_graph(
        [helper.make_node("Neg", ["t"], ["o"])], "inner", [],
        [helper.make_tensor_value_info("o", FLOAT, None)],
    )  # fmt: skip
    nodes = [
        *read(), conv("t", "v", "a", pads=[2, 2]),
        helper.make_node("If", ["c"], ["b"], then_branch=inner, else_branch=inner),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]  # fmt: skip
    true = numpy_helper.from_array(np.array(True), "c")
    proto = graph(nodes, weight("v", 4, 4, 5), true)
    before = run(proto)
    assert look_up(proto) == 1
    np.testing.assert_allclose(run(proto), before, atol=1e-5)


OTHERS: dict[str, tuple[list[Node], list[TensorProto]]] = {
    "groups": ([*read(), conv("t", "v", "y", group=2)], [weight("v", 6, 2, 5)]),
    "pads that are told by a word": (
        [*read(), conv("t", "v", "y", auto_pad="SAME_UPPER")], [weight("v", 6, 4, 5)],
    ),
    "no letters": (
        [
            helper.make_node("Cast", ["x"], ["f"], to=FLOAT),
            helper.make_node("Unsqueeze", ["f", "one"], ["t"]), conv("t", "v", "y"),
        ],
        [weight("v", 6, 1, 5), numpy_helper.from_array(np.array([1]), "one")],
    ),
    "places as channels": (
        [
            helper.make_node("Gather", ["e", "x"], ["rows"]),
            helper.make_node("Transpose", ["rows"], ["t"], perm=[0, 1, 2]), conv("t", "v", "y"),
        ],
        [weight("v", 6, 17, 2)],
    ),
    "weights that are computed": (
        [helper.make_node("Neg", ["u"], ["v"]), *read(), conv("t", "v", "y")],
        [weight("u", 6, 4, 5)],
    ),
    "columns of a table": (
        [
            helper.make_node("Gather", ["wide", "x"], ["rows"], axis=1),
            helper.make_node("Transpose", ["rows"], ["t"], perm=[0, 2, 1]), conv("t", "v", "y"),
        ],
        [weight("wide", 4, LETTERS), weight("v", 6, 17, 2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "weights"), OTHERS.values(), ids=OTHERS)
def test_other_convolutions_are_left_as_they_are(
    nodes: list[Node], weights: list[TensorProto]
) -> None:
    proto = graph(nodes, *weights)
    run(proto)
    _stays(proto)


def test_tables_beyond_the_cache_and_old_graphs_are_left_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [*read(), conv("t", "v", "y")]
    old = graph(nodes, weight("v", 6, 4, 5))
    old.opset_import[0].version = 12
    _stays(old)
    monkeypatch.setattr(onnx_lookups, "LARGEST", 10 * 6 * 5 * 4 - 1)
    _stays(graph(nodes, weight("v", 6, 4, 5)))


def _count(proto: onnx.ModelProto, kind: str) -> int:
    return [node.op_type for node in proto.graph.node].count(kind)


def _stays(proto: onnx.ModelProto) -> None:
    before = proto.SerializeToString(deterministic=True)
    assert look_up(proto) == 0
    assert proto.SerializeToString(deterministic=True) == before
