"""Convolutions over the letters of an embedding made into sums of rows of tables.

What a kernel makes of a letter at one of its places is known beforehand: the letter's row of the embedding times the
kernel's weights there. So a table for each place, looked up and added, takes the place of the multiplications.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from inference import onnx_planes

LARGEST = (
    4 << 20
)  # bytes of a convolution's tables, which are to stay in a core's cache
END = np.iinfo(np.int64).max
FORWARD = [0, 2, 1]  # (row, place, channel) -> (row, channel, place)

Array = np.ndarray[Any, Any]


def look_up(model: ModelProto) -> int:
    """Rewrite those of the graph itself, not of graphs within; how many."""
    return _Graph(model.graph).rewrite() if onnx_planes.is_recent(model) else 0


class _Graph:
    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self._values = {one.name: one for one in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._nodes: list[NodeProto] = []

    def rewrite(self) -> int:
        count = 0
        for node in self.graph.node:
            if (found := self._letters(node)) is not None and self._tables(node, found):
                count += 1
            else:
                self._nodes.append(node)
        if count:
            del self.graph.node[:]
            self.graph.node.extend(self._nodes)
            _prune(self.graph)
        return count

    def _letters(self, node: NodeProto) -> NodeProto | None:
        """The node that looks letters up of which this one is the convolution."""
        if node.op_type != "Conv" or node.domain:
            return None
        turned = self._makers.get(node.input[0])
        if turned is None or turned.op_type != "Transpose" or turned.domain:
            return None
        found = self._makers.get(turned.input[0])
        if found is None or found.op_type != "Gather" or found.domain:
            return None
        told = _attributes(turned).get("perm") == FORWARD
        return found if told and _attributes(found).get("axis", 0) == 0 else None

    def _tables(self, node: NodeProto, found: NodeProto) -> bool:
        """Put lookups in the place of the convolution, if it is such a one and they are small."""
        told = _attributes(node)
        values = [self._value(name) for name in (found.input[0], *node.input[1:])]
        is_plain = told.get("group", 1) == 1 and told.get("auto_pad", b"NOTSET") in (
            b"NOTSET", b"VALID",
        )  # fmt: skip
        if not is_plain or any(one is None for one in values):
            return False
        rows, weight, *bias = (one for one in values if one is not None)
        if rows.ndim != 2 or weight.ndim != 3 or rows.dtype != weight.dtype:
            return False
        outputs, _, width = weight.shape
        if (len(rows) + 1) * outputs * width * rows.itemsize > LARGEST:
            return False
        name = node.output[0]
        letters, pads = found.input[1], told.get("pads", [0, 0])
        if any(pads):
            # An index beyond the embedding must stay an error, and not find the row of the padding.
            known = self._constant(name, "letters", np.arange(len(rows)))
            kept = self._add("Gather", [known, letters], f"{name}_known")
            around = self._constant(name, "pads", np.array([0, pads[0], 0, pads[1]]))
            outside = self._constant(name, "outside", np.array(len(rows)))
            letters = self._add("Pad", [kept, around, outside], f"{name}_padded")
            rows = np.concatenate([rows, np.zeros_like(rows[:1])])
        (step,), (apart,) = told.get("strides", [1]), told.get("dilations", [1])
        axis = self._constant(name, "axis", np.array([1]))
        steps = self._constant(name, "steps", np.array([step]))
        parts = []
        for place in range(width):
            table = rows.astype(np.float64) @ weight[:, :, place].T.astype(np.float64)
            if place == 0 and bias:
                table += bias[0]
            left = (width - 1 - place) * apart
            begin = self._constant(name, f"begin_{place}", np.array([place * apart]))
            end = self._constant(
                name, f"end_{place}", np.array([-left if left else END])
            )
            part = self._add(
                "Slice", [letters, begin, end, axis, steps], f"{name}_letters_{place}"
            )
            table_name = self._constant(
                name, f"table_{place}", table.astype(rows.dtype)
            )
            parts.append(
                self._add("Gather", [table_name, part], f"{name}_part_{place}")
            )
        total = self._add("Sum", parts, f"{name}_sum")
        self._add("Transpose", [total], name, perm=FORWARD)
        return True

    def _value(self, name: str) -> Array | None:
        found = self._values.get(name)
        kinds = (TensorProto.FLOAT, TensorProto.DOUBLE)
        if found is None or found.data_type not in kinds:
            return None
        return np.asarray(numpy_helper.to_array(found))

    def _constant(self, name: str, what: str, value: Array) -> str:
        full = f"{name}_compass_{what}"
        self.graph.initializer.append(numpy_helper.from_array(value, full))
        return full

    def _add(self, kind: str, inputs: Sequence[str], output: str, **told: Any) -> str:
        node = helper.make_node(kind, inputs, [output], name=f"{output}_{kind}", **told)
        self._nodes.append(node)
        return output


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _prune(graph: GraphProto) -> None:
    """Drop what nobody needs any more."""
    needed = {one.name for one in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(onnx_planes.needs(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [one for one in graph.initializer if one.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)
