"""What each user may hold at once, and what is left of that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import inf
from typing import NamedTuple

from registry.placement.ledger import end_of
from registry.placement.sizes import count
from registry.placement.terms import Demand, Holding, Limit
from registry.resources import Resources


class Excess(NamedTuple):
    """A limit that a task would break: `limit` of `what`, of which `held` are held."""

    what: str
    limit: int
    held: int
    asked: int


class Limits:
    """Counts what users hold against their limits during a pass."""

    def __init__(
        self, limits: Mapping[int, Limit], holdings: Iterable[Holding]
    ) -> None:
        self.limits = {owner: limit for owner, limit in limits.items() if any_of(limit)}
        self.held: dict[int, list[Holding]] = defaultdict(list)
        self._sums: dict[int, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
        if self.limits:
            for holding in holdings:
                self.hold(holding)

    def hold(self, holding: Holding) -> None:
        owner = holding.owner
        if owner in self.limits:
            self.held[owner].append(holding)
            tasks, cpus, gpus = self._sums[owner]
            needs = holding.needs
            self._sums[owner] = (tasks + 1, cpus + needs.cpus, gpus + needs.gpus)

    def excesses(self, demand: Demand) -> list[Excess]:
        """All limits of its owner that it would break now."""
        limit = self.limits.get(demand.owner)
        if limit is None:
            return []
        return _excesses(limit, self._sums[demand.owner], demand.needs)

    def earliest(self, demand: Demand) -> tuple[float, int]:
        """When its owner's limits let it start, and the task whose end that is.

        Infinite, with the first of the owner's tasks, if that hangs on unknown ends.
        """
        limit = self.limits.get(demand.owner)
        if limit is None:
            return 0.0, 0
        held = self.held[demand.owner]
        tasks, cpus, gpus = self._sums[demand.owner]
        if not _excesses(limit, (tasks, cpus, gpus), demand.needs):
            return 0.0, 0
        ends = [(end_of(one, guesses=True), one.task, one.needs) for one in held]
        for end, task, needs in sorted(ends, key=lambda one: one[:2]):
            tasks, cpus, gpus = tasks - 1, cpus - needs.cpus, gpus - needs.gpus
            if not _excesses(limit, (tasks, cpus, gpus), demand.needs):
                return end, task
        return inf, 0


def any_of(limit: Limit) -> bool:
    return any(part is not None for part in limit)


def limit_words(excess: Excess) -> tuple[str, str]:
    """The limit and what is left of it, as the start and the middle of a sentence."""
    left = max(0, excess.limit - excess.held)
    if excess.what == "task":
        whole = f"{excess.limit} running {'task' if excess.limit == 1 else 'tasks'}"
        return whole, f"{left} more"
    return count(excess.limit, excess.what), f"{left} more"


def _excesses(
    limit: Limit, held: tuple[int, int, int], needs: Resources
) -> list[Excess]:
    asked = (1, needs.cpus, needs.gpus)
    return [
        Excess(what, most, has, more)
        for what, most, has, more in zip(
            ("task", "CPU", "GPU"), limit, held, asked, strict=True
        )
        if most is not None and more and has + more > most
    ]
