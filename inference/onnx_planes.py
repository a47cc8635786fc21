"""Convolutions along one axis made such over a plane of height one.

ONNX Runtime has quick kernels for two axes only; along one it copies every window into a matrix first, which costs a
sixth more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

OPSET = 13  # from which on axes are an input
HEIGHT = "compass_height"  # the axis that is put in: [2]
# Of one tensor to one of the same shape, each element by itself.
ALONE = frozenset(
    (
        *(
            "Relu",
            "LeakyRelu",
            "Elu",
            "Selu",
            "Celu",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
        ),
        *("Sigmoid", "Tanh", "Softplus", "Softsign", "Erf", "Identity"),
    )
)


def widen(model: ModelProto) -> int:
    """Rewrite those of the graph itself, not of graphs within; how many."""
    return _Graph(model.graph).rewrite() if is_recent(model) else 0


def is_recent(model: ModelProto) -> bool:
    """Whether axes and pads are inputs in the language of the graph."""
    opsets = {one.domain: one.version for one in model.opset_import}
    return bool(opsets.get("", opsets.get("ai.onnx", 0)) >= OPSET)


class _Graph:
    def __init__(self, graph: GraphProto) -> None:
        self.graph, self.count = graph, 0
        self._nodes: list[NodeProto] = []
        self._wide: dict[str, str] = {}  # tensors by the name that they have as planes
        self._flat: set[str] = set()  # those of them that stand there as they were, too
        self._weights = {one.name: one for one in graph.initializer}
        self._uses = Counter(
            name for node in _all_nodes(graph) for name in node.input
        ) + Counter(one.name for one in graph.output)

    def rewrite(self) -> int:
        for node in self.graph.node:
            if self._is_narrow(node):
                self._convolution(node)
            elif (
                node.op_type in ALONE
                and not node.domain
                and node.input[0] in self._wide
            ):
                self._alone(node)
            else:
                self._flatten(needs(node))
                self._nodes.append(node)
        self._flatten(one.name for one in self.graph.output)
        if self.count:
            del self.graph.node[:]
            self.graph.node.extend(self._nodes)
            axis = helper.make_tensor(HEIGHT, TensorProto.INT64, [1], [2])
            self.graph.initializer.append(axis)
        return self.count

    def _is_narrow(self, node: NodeProto) -> bool:
        if node.op_type != "Conv" or node.domain:
            return False
        weight = self._weights.get(node.input[1])
        return (
            weight is not None
            and len(weight.dims) == 3
            and self._uses[weight.name] == 1
        )

    def _convolution(self, node: NodeProto) -> None:
        name = node.input[0]
        if name not in self._wide:
            self._wide[name] = f"{name}_compass_plane"
            self._flat.add(name)
            self._add("Unsqueeze", [name, HEIGHT], self._wide[name])
        weight = self._weights[node.input[1]]
        outputs, kernels, width = weight.dims
        del weight.dims[:]
        weight.dims.extend([outputs, kernels, 1, width])
        for one in node.attribute:
            if one.name in ("kernel_shape", "strides", "dilations"):
                _set(one, [1, *one.ints])
            elif one.name == "pads":
                _set(one, [0, one.ints[0], 0, one.ints[1]])
        node.input[0] = self._wide[name]
        self._widened(node)
        self.count += 1

    def _alone(self, node: NodeProto) -> None:
        node.input[0] = self._wide[node.input[0]]
        self._widened(node)

    def _widened(self, node: NodeProto) -> None:
        name = node.output[0]
        self._wide[name] = node.output[0] = f"{name}_compass_plane"
        self._nodes.append(node)

    def _flatten(self, names: Iterable[str]) -> None:
        """Have these tensors as they were, for whoever else needs them."""
        for name in names:
            if name in self._wide and name not in self._flat:
                self._flat.add(name)
                self._add("Squeeze", [self._wide[name], HEIGHT], name)

    def _add(self, kind: str, inputs: list[str], output: str) -> None:
        self._nodes.append(
            helper.make_node(kind, inputs, [output], name=f"{output}_{kind}")
        )


def needs(node: NodeProto) -> Iterable[str]:
    """What the node needs, with what graphs within it take from around."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from needs(inner)
            yield from (one.name for one in graph.output)


def _all_nodes(graph: GraphProto) -> Iterable[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _all_nodes(inner)


def _set(attribute: AttributeProto, numbers: Iterable[int]) -> None:
    found = list(numbers)
    del attribute.ints[:]
    attribute.ints.extend(found)
