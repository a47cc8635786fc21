"""Whether a node could ever hold a task, and which comes closest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import ceil, floor
from typing import NamedTuple

from registry.placement.terms import Gpu
from registry.resources import GIB, Resources


class Size(NamedTuple):
    """A node as large as it is when nothing runs on it."""

    node: str
    capacity: Resources
    gpus: Sequence[Gpu] = ()


class Lack(NamedTuple):
    """What is asked for of one thing, and what there is of it."""

    asked: str
    has: int | str
    what: str

    def named(self) -> str:
        if isinstance(self.has, int):
            return count(self.has, self.what)
        return f"{self.has} of {self.what}"


def could_hold(size: Size, needs: Resources) -> bool:
    """Whether it fits on the empty node."""
    return not lacking(size, needs)


def closest(sizes: Iterable[Size], needs: Resources) -> Size | None:
    """The node that lacks the least for it, the first by name among equals."""
    return min(
        sizes, key=lambda size: (_shortfall(size, needs), size.node), default=None
    )


def lacking(size: Size, needs: Resources) -> list[Lack]:
    """What it asks for above the node's size."""
    return lacks(needs, size.capacity.cpus, _gpus(size, needs), size.capacity.memory)


def lacks(needs: Resources, cpus: int, gpus: int, memory: int) -> list[Lack]:
    """What it asks for above that much; GPUs are those with enough memory."""
    short = []
    if needs.cpus and needs.cpus > cpus:
        short.append(Lack(count(needs.cpus, "CPU"), max(cpus, 0), "CPU"))
    if needs.gpus and needs.gpus > gpus:
        short.append(Lack(gpus_of(needs), max(gpus, 0), "GPU"))
    if needs.memory and needs.memory > memory:
        asked = f"{gib(needs.memory, ceil)} of memory"
        short.append(Lack(asked, gib(memory), "memory"))
    return short


def asked_and_had(short: list[Lack]) -> tuple[str, str]:
    """What is asked for and what there is of it, each as words."""
    asked = join([lack.asked for lack in short])
    if len(short) == 1:
        return asked, str(short[0].has)
    return asked, join([lack.named() for lack in short])


def join(parts: list[str]) -> str:
    *most, last = parts or [""]
    return f"{', '.join(most)} and {last}" if most else last


def count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def gib(size: int, rounding: Callable[[float], int] = floor) -> str:
    """To a tenth: down for what there is, up for what is asked, so that they differ."""
    return f"{rounding(max(size, 0) / GIB * 10) / 10:.1f} GiB"


def gpus_of(needs: Resources) -> str:
    words = count(needs.gpus, "GPU")
    return f"{words} with {gib(needs.gpu_memory, ceil)}" if needs.gpu_memory else words


def _gpus(size: Size, needs: Resources) -> int:
    if not size.gpus:
        return size.capacity.gpus
    return sum(gpu.memory >= needs.gpu_memory for gpu in size.gpus)


def _shortfall(size: Size, needs: Resources) -> float:
    """By how much it is too small: each part that lacks as a share of what is asked."""
    pairs = (
        (needs.cpus, size.capacity.cpus),
        (needs.gpus, _gpus(size, needs)),
        (needs.memory, size.capacity.memory),
    )
    return sum(max(0, need - has) / need for need, has in pairs if need)
