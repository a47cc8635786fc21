"""When each waiting task will start, if the line goes on in its order and nothing ends early."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from registry.placement.ledger import Ledger
from registry.placement.limits import Limits
from registry.placement.promise import Promise
from registry.placement.terms import Demand, Holding
from registry.placement.track import Track
from registry.placement.windows import after_windows
from registry.resources import Resources

FORESEEN = 100  # tasks of a lane whose start is estimated
SHAPES = 30  # different requests of a lane that are looked at node by node


class Forecast:
    """Plays the line of one lane forward over the tracks of its nodes."""

    def __init__(
        self, ledgers: Sequence[Ledger], promise: Promise | None, limits: Limits
    ) -> None:
        self.ledgers, self.promise, self.limits = ledgers, promise, limits
        self.has_windows = any(ledger.windows for ledger in ledgers)
        self.tracks = [ledger.track(guesses=True) for ledger in ledgers]
        self._present: dict[Resources, list[float]] = {}
        self._later: dict[Resources, list[float]] = {}
        self._is_lost = False

    def present(self, needs: Resources) -> list[float] | None:
        """For each node when it would fit there if nothing else came; infinite for unknown.

        None for more different requests than are looked at in one pass.
        """
        if needs not in self._present:
            if len(self._present) >= SHAPES:
                return None
            self._present[needs] = [
                ledger.track(guesses=True).earliest(needs) for ledger in self.ledgers
            ]
            self._later[needs] = [track.earliest(needs) for track in self.tracks]
        return self._present[needs]

    def start(self, demand: Demand, *, is_limited: bool) -> float | None:
        """Its estimated start; call it in the order of the line."""
        if self._is_lost or self.present(demand.needs) is None:
            self._is_lost = True
            return None
        promise = self.promise
        is_first = promise is not None and promise.demand.task == demand.task
        starts = self._later[demand.needs]
        if is_first and promise is not None:
            number = self.ledgers.index(promise.ledger)
            start = promise.starts if promise.starts < inf else starts[number]
        else:
            if self.has_windows:
                starts = [
                    after_windows(ledger, demand, start)
                    for ledger, start in zip(self.ledgers, starts, strict=True)
                ]
            start = min(starts, default=inf)
            number = starts.index(start) if starts else 0
        start = max(start, self.limits.earliest(demand)[0])
        if start == inf:
            if is_first:  # what comes later must not count on this node
                self._lay(number, Track(0, 0, [], [], inf))
            return None
        end = inf if demand.lasts is None else start + demand.lasts
        self.limits.hold(
            Holding(demand.task, demand.needs, (), end, demand.owner, True)
        )
        if not is_limited:
            track = self.tracks[number].with_one_more(demand.needs, start, end)
            self._lay(number, track)
        return start if start > 0 else None

    def _lay(self, number: int, track: Track) -> None:
        self.tracks[number] = track
        for needs, starts in self._later.items():
            starts[number] = track.earliest(needs)
