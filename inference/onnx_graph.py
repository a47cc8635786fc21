"""What an ONNX file holds: refused if it reaches for code or other files, else its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto, TypeProto

from inference.onnx_tensors import Axis, Graph, Tensor
from registry.errors import Problem

# Operators of these domains are built into the runtime.
DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
DTYPES: dict[int, str] = {
    TensorProto.FLOAT16: "float16", TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64", TensorProto.INT8: "int8", TensorProto.INT16: "int16",
    TensorProto.INT32: "int32", TensorProto.INT64: "int64", TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16", TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64", TensorProto.BOOL: "bool", TensorProto.STRING: "string",
}  # fmt: skip
MOST_OPERATORS = 50_000  # with those of functions at each place that calls them
MOST_WITHIN = 100  # functions that call each other
LOOPS = frozenset(("Loop", "Scan", "SequenceMap"))
MOST, DEEPEST, LONGEST = 1000, 8, 200  # tensors, axes, letters of a name
ZIPMAP = "with scikit-learn, convert it with the option zipmap=False"


def read(content: bytes) -> Graph:
    """The graph's inputs and outputs. Raises Problem `bad_model`, `unsafe_model`."""
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise bad("It is neither an archive nor a whole ONNX file.") from None
    if not model.ir_version or not model.graph.output:
        raise bad("It is neither an archive nor an ONNX file.")
    _look(model)
    _count(model)
    constants = {one.name for one in model.graph.initializer}
    constants |= {one.values.name for one in model.graph.sparse_initializer}
    inputs = [_tensor(one) for one in model.graph.input if one.name not in constants]
    outputs = [_tensor(one) for one in model.graph.output]
    if not inputs:
        raise bad("The graph has no input.")
    for some, what in ((inputs, "inputs"), (outputs, "outputs")):
        if len(some) > MOST or len({one.name for one in some}) != len(some):
            raise bad(f"The {what} are more than {MOST}, or two have one name.")
    if any(one.shape is None for one in inputs):
        raise bad("An input has no shape; say at least how many axes it has.")
    if any(one.name == "error" for one in outputs):
        raise bad("An output is named error, as the errors of answers are; rename it.")
    return Graph(tuple(inputs), tuple(outputs), _has_loop(model))


def bad(text: str) -> Problem:
    return Problem("bad_model", text)


def _look(model: ModelProto) -> None:
    """Refuse operators that are not the runtime's own, and weights in other files."""
    own = {(one.domain, one.name) for one in model.functions}
    for message in _messages(model):
        if isinstance(message, NodeProto):
            is_known = message.domain in DOMAINS
            if not is_known and (message.domain, message.op_type) not in own:
                operator = f"{message.domain}.{message.op_type}"[:LONGEST]
                text = f"The graph uses the custom operator {operator!a}, which is code of somebody's own."
                raise Problem("unsafe_model", text)
        elif isinstance(message, TensorProto):
            is_outside = message.data_location == TensorProto.EXTERNAL
            if is_outside or message.external_data:
                text = "The graph keeps weights in other files; save it as one file, with its weights inside."
                raise Problem("unsafe_model", text)


def _count(model: ModelProto) -> None:
    """Refuse functions that call each other until the runtime has too many operators."""
    functions = {(one.domain, one.name, one.overload): one for one in model.functions}
    known: dict[tuple[str, str, str], int] = {}

    def of(nodes: Iterable[NodeProto], within: int) -> int:
        found = 0
        for node in nodes:
            found += 1 + sum(of(graph.node, within) for graph in _graphs(node))
            name = node.domain, node.op_type, node.overload
            if (function := functions.get(name)) is not None:
                if within >= MOST_WITHIN:
                    raise bad(f"Its functions call more than {MOST_WITHIN} deep.")
                if name not in known:
                    known[name] = of(function.node, within + 1)
                found += known[name]
            if found > MOST_OPERATORS:
                raise bad(f"It has more than {MOST_OPERATORS:,} operators.")
        return found

    of(model.graph.node, 0)


def _graphs(node: NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _has_loop(model: ModelProto) -> bool:
    """Whether how long it runs is up to its inputs."""
    return any(
        isinstance(message, NodeProto) and message.op_type in LOOPS
        for message in _messages(model)
    )


def _messages(message: Any) -> Iterator[Any]:
    """The message and all within it."""
    yield message
    for field in message.DESCRIPTOR.fields:
        if field.message_type is None:
            continue
        value = getattr(message, field.name)
        if hasattr(value, "DESCRIPTOR"):
            if message.HasField(field.name):
                yield from _messages(value)
        else:
            for one in value:
                yield from _messages(one)


def _tensor(told: onnx.ValueInfoProto) -> Tensor:
    name = told.name
    if not 0 < len(name) <= LONGEST or not name.isprintable():
        raise bad("A tensor's name is empty, too long, or no plain text.")
    if told.type.WhichOneof("value") != "tensor_type":
        raise bad(f"{name!r} is no tensor; {ZIPMAP}.")
    dtype = DTYPES.get(told.type.tensor_type.elem_type)
    if dtype is None:
        number = told.type.tensor_type.elem_type
        raise bad(f"{name!r} has elements of type {number}, which JSON cannot hold.")
    shape = _shape(told.type.tensor_type)
    if shape is not None and len(shape) > DEEPEST:
        raise bad(f"{name!r} has more than {DEEPEST} axes.")
    return Tensor(name, dtype, shape)


def _shape(kind: TypeProto.Tensor) -> tuple[Axis, ...] | None:
    if not kind.HasField("shape"):
        return None
    axes: list[Axis] = []
    for one in kind.shape.dim:
        if one.WhichOneof("value") == "dim_value" and one.dim_value > 0:
            axes.append(int(one.dim_value))
        else:
            axes.append(one.dim_param[:LONGEST] or None)
    return tuple(axes)
