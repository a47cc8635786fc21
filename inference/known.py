"""What this process knows of the inference workers: which versions each holds, and its work."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from inference.links import Place


class Known:
    """Shared by threads. No question is asked for it: greetings, answers and beats tell enough."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Place, set[int]] = {}
        self._beats: dict[Place, object] = {}
        self._flying: dict[Place, Counter[int]] = {}

    def look(self, there: Sequence[Place]) -> None:
        """Take over what they told since, and forget who is there no more."""
        with self._lock:
            for place in there:
                if place.versions is None or self._beats.get(place) == place.beat_at:
                    continue
                self._beats[place] = place.beat_at
                self._held[place] = set(place.versions)
            for known in (self._held, self._beats):
                for place in known.keys() - set(there):
                    del known[place]

    def greeted(self, place: Place, versions: Iterable[int]) -> None:
        with self._lock:
            self._held[place] = set(versions)

    @contextmanager
    def asking(self, place: Place, version: int) -> Iterator[None]:
        with self._lock:
            self._flying.setdefault(place, Counter())[version] += 1
        try:
            yield
        finally:
            with self._lock:
                flying = self._flying[place]
                flying[version] -= 1
                if not flying.total():
                    del self._flying[place]

    def answered(self, place: Place, version: int, *, is_held: bool) -> None:
        with self._lock:
            held = self._held.setdefault(place, set())
            (held.add if is_held else held.discard)(version)

    def in_order(self, there: Sequence[Place], version: int) -> list[Place]:
        """Who holds the version or is loading it first, then by what they have to do."""

        def rank(place: Place) -> tuple[bool, int, int]:
            flying = self._flying.get(place, Counter())
            is_near = version in self._held.get(place, ()) or flying[version] > 0
            return not is_near, flying.total(), place.work

        with self._lock:
            return sorted(random.sample(there, len(there)), key=rank)
