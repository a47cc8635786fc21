"""The tensors that go into a graph and come out of it."""

from __future__ import annotations

from dataclasses import dataclass

Axis = int | str | None  # its size; or its name, or nothing, where any size will do


@dataclass(frozen=True)
class Tensor:
    """An input or output; `shape` is None where the graph does not tell it."""

    name: str
    dtype: str
    shape: tuple[Axis, ...] | None


@dataclass(frozen=True)
class Graph:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    has_loop: bool = False
