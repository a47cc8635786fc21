"""What the cache knows of a model: the database's word, its stage, and how it was used."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from registry.errors import Problem

MOST_TALLIES = 1000  # versions whose counts are remembered after they left
MOST_GONE = 100  # models that left and are still told of
COUNTS = ("hits", "misses", "loads", "failures", "evictions")


@dataclass(frozen=True)
class Facts:
    """What the database says of a version.

    `size` is of its files, in bytes; `inputs` is the JSON Schema of an item; `batch` is the
    number of items of one pass, `bulk` that of a pass where many wait; 0 while nobody has
    measured it.
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
    bulk: int = 0

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

    def is_stale(self, now: float, limit: float) -> bool:
        """Whether it has been ready and idle for so many seconds; never if that is 0."""
        is_old = 0 < limit <= now - self.used_at
        return is_old and self.is_idle and self.stage is Stage.READY

    def again(self) -> Problem:
        """The one reason for every waiter, each with a traceback of its own."""
        assert self.problem is not None
        code, detail = self.problem.code, self.problem.detail
        return Problem(code, detail, retry_after=self.problem.retry_after)

    def told(self) -> dict[str, Any]:
        """What the status says of it."""
        return {
            "model": self.facts.address,
            "version_id": str(self.facts.version),
            "state": self.stage.value,
            "bytes": self.nbytes,
            "in_use": self.users > 0,
            "users": self.users,
            "load_seconds": round(self.seconds, 4),
        }


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

    def told(self, entries: OrderedDict[int, Entry], pins: set[int]) -> dict[str, Any]:
        """Totals, each model that is held, and the counts of the latest that have left."""
        models = [
            {**entry.told(), "pinned": version in pins, **self.of(version)}
            for version, entry in reversed(entries.items())
        ]
        gone = [
            {"model": address, "version_id": str(version), **counts}
            for version, (address, counts) in reversed(self._of.items())
            if version not in entries
        ]
        loaded = sum(one.nbytes for one in entries.values() if one.model is not None)
        return {
            **self.total,
            "bytes": loaded,
            "models": models,
            "gone": gone[:MOST_GONE],
        }
