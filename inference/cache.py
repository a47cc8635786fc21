"""Loaded models: one load each however many ask, the least recently used goes first."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from inference.entries import Entry, Facts, Loaded, Stage, Tally
from inference.memory import Gauge, too_large
from registry.addresses import unknown
from registry.errors import Problem

__all__ = ["FAILURE_KEPT", "FRESH", "Facts", "Loaded", "ModelCache"]

log = logging.getLogger(__name__)

FRESH = 1.0  # seconds that a look at the database holds
FAILURE_KEPT = 5.0  # seconds until a load that failed is tried again


class ModelCache:
    """Models by version, at most `capacity` of them and `budget` bytes besides those in use.

    `look` gives the Facts of a version, or None once it is deleted; `load` makes the model of
    Facts; `unload` is told when a model has left. A model in use or pinned is never evicted. A
    budget that is a function is asked before each load. An idle model goes after `idle_limit`
    seconds, 0 for never. `meter` gives the bytes that the process takes.
    """

    def __init__(
        self,
        load: Callable[[Facts], Loaded],
        look: Callable[[int], Facts | None],
        *,
        capacity: int,
        budget: int | Callable[[], int] | None = None,
        idle_limit: float = 0.0,
        meter: Callable[[], int] = lambda: 0,
        unload: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loader, self._look, self._unload = load, look, unload
        self._capacity, self._ask_budget = capacity, budget
        self._budget = None if callable(budget) else budget
        self._idle_limit = idle_limit
        self._gauge = Gauge(meter)
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._entries: OrderedDict[int, Entry] = (
            OrderedDict()
        )  # least recently used first
        self._tally = Tally()
        self._pins: set[int] = set()

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
                entry.used_at = self._monotonic()
                self._trim()
                if entry.is_dropped and entry.users == 0:
                    entry.model = None
                    self._unload()

    def preload(
        self,
        version: int,
        *,
        pin: bool = False,
        warm_up: Callable[[Loaded, Facts], None] = lambda *_: None,
    ) -> tuple[bool, float]:
        """Whether it had to be loaded, and the seconds that this took; a pinned one stays.

        Raises Problem as `use` does.
        """
        before = self._tally.of(version)["loads"]
        with self.use(version) as (model, facts):
            with self._changed:
                if pin:
                    self._pins.add(version)
                is_new = self._tally.of(version)["loads"] > before
                entry = self._entries.get(version)
                seconds = entry.seconds if is_new and entry else 0.0
            if is_new:
                warm_up(model, facts)
            return is_new, seconds

    def evict(self, version: int) -> str:
        """Unpin a model and let it go if it is idle: `evicted`, `in use` or `not loaded`."""
        with self._changed:
            self._pins.discard(version)
            entry = self._entries.get(version)
            if entry is None:
                return "not loaded"
            if not entry.is_idle:
                return "in use"
            is_ready = entry.stage is Stage.READY
            self._drop(entry, counted=is_ready)
            return "evicted" if is_ready else "not loaded"

    def forget(self, version: int) -> None:
        """Let go of a version that was deleted; one in use goes when it is given back."""
        with self._changed:
            self._pins.discard(version)
            entry = self._entries.get(version)
            if entry is not None:
                self._drop(entry)

    def sweep(self) -> None:
        """Let go of what the database has no more, and of what was idle for too long.

        Those in use go when they are given back.
        """
        with self._changed:
            now = self._monotonic()
            for entry in list(self._entries.values()):
                if entry.stage is Stage.FAILED and now - entry.ended_at >= FAILURE_KEPT:
                    self._drop(entry)
                elif entry.is_stale(now, self._idle_limit) and not self._is_pinned(
                    entry
                ):
                    self._drop(entry, counted=True)
            held = list(self._entries)
        for version in held:
            if self._look(version) is None:
                self.forget(version)

    def ready(self) -> list[int]:
        """The versions that are loaded."""
        with self._changed:
            return [n for n, one in self._entries.items() if one.stage is Stage.READY]

    def status(self) -> dict[str, Any]:
        """Totals, and each model with its bytes, users, hits and seconds to load."""
        with self._changed:
            told = {"budget": self._budget, "capacity": self._capacity}
            return {**told, **self._tally.told(self._entries, self._pins)}

    def _take(self, version: int) -> Entry:
        facts = self._facts(version)
        with self._changed:
            now = self._monotonic()
            entry = self._entries.get(version)
            if entry and entry.stage is Stage.FAILED:
                if now - entry.ended_at < FAILURE_KEPT:
                    raise entry.again()
                self._drop(entry)
                entry = None
            is_mine = entry is None
            if entry is None:
                entry = self._entries[version] = Entry(facts, now)
            waits = entry.stage is Stage.LOADING and not is_mine
            if not waits:
                self._tally.note(facts, "misses" if is_mine else "hits")
            entry.used_at = now
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
            if waits:
                is_hit = entry.stage is Stage.READY
                self._tally.note(facts, "hits" if is_hit else "misses")
            if entry.stage is Stage.FAILED:
                entry.users -= 1
                raise entry.again()
        return entry

    def _load(self, entry: Entry) -> None:
        """Load it as the one thread that does; whatever happens, no other waits for ever."""
        began = self._monotonic()
        model: Any = None
        nbytes = 0
        problem: Problem | None = Problem(
            "model_unavailable", "The loading of the model was broken off."
        )
        try:
            self._make_room(entry)
            look = self._gauge.begin(self._activity(entry))
            model = self._loader(entry.facts)
            grown = self._gauge.end(look, self._activity(entry), entry.facts)
            nbytes = max(int(model.nbytes), grown)
            self._gauge.remember(entry.facts, nbytes)
            if self._budget is not None and nbytes > self._budget:
                model = None
                raise too_large(entry.facts, nbytes, self._budget)
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
                self._tally.note(entry.facts, "failures" if problem else "loads")
                if problem is None:
                    entry.nbytes = nbytes
                    self._trim()
                elif problem.retry_after is not None:
                    self._drop(entry)  # room may come at any moment
                self._changed.notify_all()

    def _make_room(self, entry: Entry) -> None:
        asked = self._ask_budget() if callable(self._ask_budget) else self._budget
        with self._changed:
            self._budget = asked
            needed = entry.nbytes = self._gauge.expected(entry.facts)
            if asked is not None and needed > asked:
                raise too_large(entry.facts, needed, asked)
            self._trim()
            if asked is None or self._used() <= asked:
                return
            text = f"The model {entry.facts.address} needs {needed} bytes of memory"
            text += ", and the models in use or pinned leave less."
            raise Problem("model_unavailable", text, retry_after=1)

    def _activity(self, loading: Entry) -> tuple[int, int]:
        """How many batches are at work with other models, and how many have ever come."""
        with self._changed:
            others = (one for one in self._entries.values() if one is not loading)
            users = sum(one.users for one in others)
            return users, self._tally.total["hits"] + self._tally.total["misses"]

    def _trim(self) -> None:
        """Evict idle models, the least recently used first, until the limits are kept."""
        for entry in list(self._entries.values()):
            ready = [
                one for one in self._entries.values() if one.stage is not Stage.FAILED
            ]
            is_over = self._budget is not None and self._used() > self._budget
            if len(ready) <= self._capacity and not is_over:
                return
            if (
                entry.is_idle
                and entry.stage is Stage.READY
                and not self._is_pinned(entry)
            ):
                self._drop(entry, counted=True)

    def _is_pinned(self, entry: Entry) -> bool:
        return entry.facts.version in self._pins

    def _used(self) -> int:
        live = (one for one in self._entries.values() if one.stage is not Stage.FAILED)
        return sum(entry.nbytes for entry in live)

    def _drop(self, entry: Entry, *, counted: bool = False) -> None:
        if self._entries.get(entry.facts.version) is entry:
            del self._entries[entry.facts.version]
        entry.is_dropped = True
        if counted:
            self._tally.note(entry.facts, "evictions")
        if entry.users == 0 and entry.model is not None:
            entry.model = None
            self._unload()

    def _facts(self, version: int) -> Facts:
        """What the database said of the version a second ago at most."""
        with self._changed:
            entry = self._entries.get(version)
            if entry and self._monotonic() - entry.checked_at < FRESH:
                return entry.facts
        asked_at = self._monotonic()
        facts = self._look(version)
        if facts is None:
            self.forget(version)
            raise unknown("This model version was deleted.")
        if entry is not None:
            if entry.facts.makes != facts.makes:
                with self._changed:
                    self._drop(entry)
            entry.checked_at, entry.facts = asked_at, facts
        return facts
