"""Whose task goes next: priority, then fair share, then first come first served."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from heapq import heapify, heappop, heapreplace

from registry.placement.terms import Demand
from registry.resources import Resources

AGING = 600.0  # seconds of waiting that count as one more point of priority
AHEAD = 600.0  # seconds for which what a user holds now is counted beforehand


def ranks(line: Iterable[Demand]) -> dict[int, int]:
    """The priority of each task with what it gained by waiting.

    Waiting lifts it no higher than the highest priority that waits in its lane, so
    among equals the old does not go before the fair.
    """
    line = list(line)
    top: dict[str, int] = {}
    for demand in line:
        if demand.priority > top.get(demand.lane, demand.priority - 1):
            top[demand.lane] = demand.priority
    return {
        demand.task: min(
            demand.priority + int(demand.waited // AGING), top[demand.lane]
        )
        for demand in line
    }


def in_order(
    line: Iterable[Demand],
    rank: Mapping[int, int],
    uses: MutableMapping[int, float],
) -> Iterator[Demand]:
    """The line from the first to the last; `uses` may be raised between two steps.

    Within one rank the user with the least use is next, with the first to come.
    """
    levels: dict[int, dict[int, list[Demand]]] = defaultdict(lambda: defaultdict(list))
    for demand in line:
        levels[rank[demand.task]][demand.owner].append(demand)
        uses.setdefault(demand.owner, 0.0)
    for level in sorted(levels, reverse=True):
        queues = levels[level]
        for queue in queues.values():
            queue.sort(key=lambda demand: demand.task, reverse=True)
        heap = [(uses[owner], queue[-1].task, owner) for owner, queue in queues.items()]
        heapify(heap)
        while heap:
            owner = heap[0][2]
            queue = queues[owner]
            yield queue.pop()
            if queue:
                heapreplace(heap, (uses[owner], queue[-1].task, owner))
            else:
                heappop(heap)


def ahead(needs: Resources) -> float:
    """Weighted CPU-seconds that holding it now counts as beforehand."""
    return AHEAD * max(1, needs.weight)
