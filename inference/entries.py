"""What the cache knows of a model: the database's word, its stage, and how it was used."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from registry.errors import Problem

MOST_TALLIES = 1000  # versions whose counts are remembered after they left
COUNTS = ("hits", "misses", "loads", "failures", "evictions")


@dataclass(frozen=True)
class Facts:
    """What the database says of a version.

    `size` is of its files, in bytes; `inputs` is the JSON Schema of an item; `batch` is the
    number of items of one pass, 0 while nobody has measured it.
    """

    version: int
    address: str
    recipe: str
    digest: str
    size: int
    inputs: dict[str, Any] = field(default_factory=dict)
    engine: str = "eager"
    engine_sha256: str = ""
    batch: int = 0

    @property
    def makes(self) -> tuple[str, str]:
        """What it takes for a loaded model to be out of date when it differs."""
        return self.digest, self.engine_sha256


class Loaded(Protocol):
    """A model in memory: `encode` one item, then `predict` many; safe in several threads."""

    nbytes: int

    def encode(self, item: Any) -> Any: ...

    def predict(self, encoded: list[Any]) -> list[dict[str, Any]]: ...


class Stage(Enum):
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Entry:
    """One version's place in the cache."""

    def __init__(self, facts: Facts, moment: float) -> None:
        self.facts, self.checked_at, self.ended_at = facts, moment, moment
        self.stage = Stage.LOADING
        self.model: Any = None
        self.problem: Problem | None = None
        self.nbytes = facts.size  # measured once it is loaded
        self.used_at = moment
        self.users, self.seconds = 0, 0.0
        self.is_dropped = False

    @property
    def is_idle(self) -> bool:
        return self.users == 0 and self.stage is not Stage.LOADING


class Tally:
    """Counts in all and by version; a version's outlive its stay in the cache."""

    def __init__(self) -> None:
        self.total = dict.fromkeys(COUNTS, 0)
        self._of: OrderedDict[int, tuple[str, dict[str, int]]] = OrderedDict()

    def note(self, facts: Facts, name: str) -> None:
        self.total[name] += 1
        _, counts = self._of.get(facts.version, ("", None))
        if counts is None:
            counts = dict.fromkeys(COUNTS, 0)
        counts[name] += 1
        self._of[facts.version] = facts.address, counts
        self._of.move_to_end(facts.version)
        if len(self._of) > MOST_TALLIES:
            self._of.popitem(last=False)

    def of(self, version: int) -> dict[str, int]:
        _, counts = self._of.get(version, ("", None))
        return dict(counts) if counts else dict.fromkeys(COUNTS, 0)

    def besides(self, held: set[int], most: int) -> list[dict[str, Any]]:
        """The counts of models that are not held, the latest used first."""
        gone = [
            {"model": address, "version_id": str(version), **counts}
            for version, (address, counts) in reversed(self._of.items())
            if version not in held
        ]
        return gone[:most]
