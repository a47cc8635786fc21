"""The words of the placement: what waits, what is offered, what is promised to whom.

All times are seconds from the pass's moment; None is a time that nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from registry.resources import Resources


@dataclass(frozen=True)
class Gpu:
    """A device of a node; `busy` is a sentence that names a process from outside Compass that uses it."""

    index: int
    memory: int = 0  # bytes
    busy: str = ""


class Demand(NamedTuple):
    """A task that waits."""

    task: int
    lane: str
    needs: Resources
    owner: int = 0
    priority: int = 0
    waited: float = 0.0  # seconds
    lasts: float | None = (
        None  # seconds: its time limit, or what it takes by experience
    )
    is_limit: bool = False  # whether `lasts` is a limit, which is held
    array: int | None = None


class Holding(NamedTuple):
    """A task that is placed; `promised` if it ends by a limit, else `ends` is a guess."""

    task: int
    needs: Resources
    gpus: tuple[int, ...] = ()
    ends: float | None = None
    owner: int = 0
    promised: bool = False


@dataclass
class Offer:
    """A node that takes work, with what it holds in the order of placing."""

    node: str
    lane: str
    capacity: Resources
    gpus: Sequence[Gpu] = ()
    holdings: Sequence[Holding] = ()


class Absent(NamedTuple):
    """A node that takes no work now, and why: "is draining", "was stopped"."""

    node: str
    lane: str
    capacity: Resources
    gpus: Sequence[Gpu]
    why: str


@dataclass(frozen=True)
class Booking:
    """A part of a node, or all of it, kept for some users from a time to a time."""

    name: str
    lane: str
    node: str | None  # None: where it fits best
    needs: Resources | None  # None: the whole node
    starts: float
    ends: float
    owners: frozenset[int] = frozenset()


class Limit(NamedTuple):
    """What one user may hold at once; None is no limit."""

    tasks: int | None = None
    cpus: int | None = None
    gpus: int | None = None


class Place(NamedTuple):
    """Where a task goes, and the GPUs by index that are its own there."""

    node: str
    gpus: tuple[int, ...] = ()


class Kept(NamedTuple):
    """A node and a start; None when its room has still to be made by unknown ends."""

    task: int
    node: str
    starts: float | None
    gpus: frozenset[int] = frozenset()


@dataclass
class Plan:
    """Where tasks go, and for the others why they wait and from when, all by task id.

    `kept` names, by lane, the start that is kept for the first in line.
    """

    places: dict[int, Place] = field(default_factory=dict)
    waits: dict[int, list[str]] = field(default_factory=dict)
    starts: dict[int, float] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
