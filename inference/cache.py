"""Loaded models: one load each however many ask, the least recently used goes first."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from registry.addresses import unknown
from registry.errors import Problem

log = logging.getLogger(__name__)

FRESH = 1.0  # seconds that a look at the database holds
FAILURE_KEPT = 5.0  # seconds until a load that failed is tried again


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
        self.users, self.hits, self.seconds = 0, 0, 0.0
        self.is_dropped = False

    @property
    def is_idle(self) -> bool:
        return self.users == 0 and self.stage is not Stage.LOADING


class ModelCache:
    """Models by version, at most `capacity` of them and `budget` bytes besides those in use.

    `look` gives the Facts of a version, or None once it is deleted; `load` makes the model of
    Facts; `unload` is told when a model has left. A model in use is never evicted.
    """

    def __init__(
        self,
        load: Callable[[Facts], Loaded],
        look: Callable[[int], Facts | None],
        *,
        capacity: int,
        budget: int | None = None,
        unload: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loader, self._look, self._unload = load, look, unload
        self._capacity, self._budget = capacity, budget
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._entries: OrderedDict[int, Entry] = (
            OrderedDict()
        )  # least recently used first
        self._counts = dict.fromkeys(
            ("hits", "misses", "loads", "failures", "evictions"), 0
        )

    @contextmanager
    def use(self, version: int) -> Iterator[tuple[Loaded, Facts]]:
        """The model, pinned until the block ends; loads it first if need be.

        Raises Problem `unknown_model` if it was deleted, `model_unavailable` if it cannot load.
        """
        entry = self._take(version)
        try:
            yield entry.model, entry.facts
        finally:
            with self._changed:
                entry.users -= 1
                self._trim()
                if entry.is_dropped and entry.users == 0:
                    entry.model = None
                    self._unload()

    def evict(self, version: int) -> bool:
        """Let an idle model go; False if it is in use or not there."""
        with self._changed:
            entry = self._entries.get(version)
            if entry is None or not entry.is_idle:
                return False
            self._drop(entry, counted=entry.stage is Stage.READY)
            return True

    def sweep(self) -> None:
        """Let go of what the database has no more; those in use go when they are given back."""
        with self._changed:
            now = self._monotonic()
            for entry in list(self._entries.values()):
                if entry.stage is Stage.FAILED and now - entry.ended_at >= FAILURE_KEPT:
                    self._drop(entry)
            held = list(self._entries)
        for version in held:
            if self._look(version) is None:
                self._forget(version)

    def ready(self) -> list[int]:
        """The versions that are loaded."""
        with self._changed:
            return [n for n, one in self._entries.items() if one.stage is Stage.READY]

    def status(self) -> dict[str, Any]:
        """Totals, and each model with its bytes, users, hits and seconds to load."""
        with self._changed:
            models = [
                {
                    "model": entry.facts.address,
                    "version_id": str(version),
                    "state": entry.stage.value,
                    "bytes": entry.nbytes,
                    "users": entry.users,
                    "hits": entry.hits,
                    "load_seconds": round(entry.seconds, 4),
                }
                for version, entry in reversed(self._entries.items())
            ]
            loaded = sum(
                one.nbytes for one in self._entries.values() if one.model is not None
            )
            return {
                **self._counts,
                "bytes": loaded,
                "budget": self._budget,
                "capacity": self._capacity,
                "models": models,
            }

    def _take(self, version: int) -> Entry:
        facts = self._facts(version)
        with self._changed:
            now = self._monotonic()
            entry = self._entries.get(version)
            if entry and entry.stage is Stage.FAILED:
                if now - entry.ended_at < FAILURE_KEPT:
                    raise _again(entry)
                self._drop(entry)
                entry = None
            is_mine = entry is None
            if entry is None:
                entry = self._entries[version] = Entry(facts, now)
            self._counts["hits" if entry.stage is Stage.READY else "misses"] += 1
            entry.hits += entry.stage is Stage.READY
            entry.users += 1
            self._entries.move_to_end(version)
        if is_mine:
            try:
                self._load(entry)
            except BaseException:
                entry.users -= 1
                raise
        with self._changed:
            self._changed.wait_for(lambda: entry.stage is not Stage.LOADING)
            if entry.stage is Stage.FAILED:
                entry.users -= 1
                raise _again(entry)
        return entry

    def _load(self, entry: Entry) -> None:
        """Load it as the one thread that does; whatever happens, no other waits for ever."""
        began = self._monotonic()
        model: Any = None
        problem: Problem | None = Problem(
            "model_unavailable", "The loading of the model was broken off."
        )
        try:
            self._make_room(entry)
            model = self._loader(entry.facts)
            problem = None
        except Problem as error:
            problem = error
        except Exception:
            log.exception("The model %s cannot be loaded", entry.facts.address)
            text = f"The model {entry.facts.address} cannot be loaded; the worker's log says why."
            problem = Problem("model_unavailable", text)
        finally:
            with self._changed:
                entry.ended_at = self._monotonic()
                entry.seconds = entry.ended_at - began
                entry.model, entry.problem = model, problem
                entry.stage = Stage.FAILED if problem else Stage.READY
                self._counts["failures" if problem else "loads"] += 1
                if problem is None:
                    entry.nbytes = int(model.nbytes)
                    self._trim()
                elif problem.retry_after is not None:
                    self._drop(entry)  # room may come at any moment
                self._changed.notify_all()

    def _make_room(self, entry: Entry) -> None:
        with self._changed:
            self._trim()
            if self._budget is None or self._used() <= self._budget:
                return
            needed = entry.facts.size
            text = f"The model {entry.facts.address} needs {needed} bytes of memory"
            if needed > self._budget:
                text += f"; this worker's models may have {self._budget}."
                raise Problem("model_unavailable", text)
            text += ", and the models in use leave less."
            raise Problem("model_unavailable", text, retry_after=1)

    def _trim(self) -> None:
        """Evict idle models, the least recently used first, until the limits are kept."""
        for entry in list(self._entries.values()):
            ready = [
                one for one in self._entries.values() if one.stage is not Stage.FAILED
            ]
            is_over = self._budget is not None and self._used() > self._budget
            if len(ready) <= self._capacity and not is_over:
                return
            if entry.is_idle and entry.stage is Stage.READY:
                self._drop(entry, counted=True)

    def _used(self) -> int:
        live = (one for one in self._entries.values() if one.stage is not Stage.FAILED)
        return sum(entry.nbytes for entry in live)

    def _drop(self, entry: Entry, *, counted: bool = False) -> None:
        if self._entries.get(entry.facts.version) is entry:
            del self._entries[entry.facts.version]
        entry.is_dropped = True
        self._counts["evictions"] += counted
        if entry.users == 0 and entry.model is not None:
            entry.model = None
            self._unload()

    def _forget(self, version: int) -> None:
        with self._changed:
            entry = self._entries.get(version)
            if entry is not None:
                self._drop(entry)

    def _facts(self, version: int) -> Facts:
        """What the database said of the version a second ago at most."""
        with self._changed:
            entry = self._entries.get(version)
            if entry and self._monotonic() - entry.checked_at < FRESH:
                return entry.facts
        asked_at = self._monotonic()
        facts = self._look(version)
        if facts is None or (entry and entry.facts.makes != facts.makes):
            self._forget(version)
        if facts is None:
            raise unknown("This model version was deleted.")
        if entry is not None:
            entry.checked_at, entry.facts = asked_at, facts
        return facts


def _again(entry: Entry) -> Problem:
    """The one reason for every waiter, each with a traceback of its own."""
    assert entry.problem is not None
    problem = entry.problem
    return Problem(problem.code, problem.detail, retry_after=problem.retry_after)
