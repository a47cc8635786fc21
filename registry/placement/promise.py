"""The start that is kept for the first in line, and who may start before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from registry.placement.ledger import Ledger, end_of, end_of_demand
from registry.placement.terms import Demand, Holding, Kept
from registry.placement.windows import after_windows, blocking
from registry.resources import Resources

PATIENCE = 30.0  # seconds in which others may pass it where no end is known
TRUST = 600.0  # seconds of waiting after which guessed ends are believed no more


@dataclass
class Promise:
    """A node that is kept for a demand from `starts` on.

    `starts` is infinite when it hangs on tasks whose ends nobody knows; then the node
    is kept from now on. `cpus` and `memory` are what others may use beside it.
    """

    demand: Demand
    ledger: Ledger
    starts: float
    guesses: bool
    gpus: frozenset[int]
    cpus: int
    memory: int

    def allows(self, demand: Demand) -> bool:
        """Whether it may start on the kept node now without any delay to the promise."""
        return self._is_over(demand) or self._is_beside(demand)

    def note(self, demand: Demand) -> None:
        """Count what was placed on the kept node, if it will still be there."""
        if not self._is_over(demand):
            self.cpus -= demand.needs.cpus
            self.memory -= demand.needs.memory

    def kept(self) -> Kept:
        starts = self.starts if self.starts < inf else None
        return Kept(self.demand.task, self.ledger.node, starts, self.gpus)

    def _is_over(self, demand: Demand) -> bool:
        end = end_of_demand(demand, guesses=self.guesses)
        return end < inf and end <= self.starts < inf

    def _is_beside(self, demand: Demand) -> bool:
        needs = demand.needs
        others = [
            gpu
            for gpu in self.ledger.free_gpus
            if gpu.index not in self.gpus and gpu.memory >= needs.gpu_memory
        ]
        return (
            (needs.cpus <= self.cpus or not needs.cpus)
            and (needs.memory <= self.memory or not needs.memory)
            and needs.gpus <= len(others)
            and self._keeps_out_of_windows(demand)
        )

    def _keeps_out_of_windows(self, demand: Demand) -> bool:
        """Whether with it there, reservations still leave the promised start free."""
        ledger = self.ledger
        if not ledger.windows or self.starts == inf:
            return True
        end = end_of_demand(demand, guesses=False)
        beside = Holding(0, demand.needs, (), end, demand.owner, promised=end < inf)
        ledger.holdings.append(beside)
        try:
            return blocking(ledger, self.demand, self.starts) is None
        finally:
            ledger.holdings.pop()


def promise(demand: Demand, ledgers: Iterable[Ledger]) -> Promise | None:
    """Keep for it the node where it starts first; None where that is impossible or too early.

    Where no start is known, the first PATIENCE seconds keep nothing. After that it is
    the node with the fewest tasks that must end. What is started beside it meanwhile
    fits without the end of any other, so that number never grows and the turn comes.
    """
    needs, guesses = demand.needs, demand.waited < TRUST
    able = [one for one in ledgers if one.could_hold(needs, with_busy=False)]
    if not able:
        return None
    starts = [
        after_windows(one, demand, one.track(guesses=guesses).earliest(needs))
        for one in able
    ]
    start = min(starts)
    if start < inf:
        ledger = able[starts.index(start)]
        stays = [one for one in ledger.holdings if end_of(one, guesses=guesses) > start]
    elif demand.waited < PATIENCE:
        return None
    else:
        ledger, stays = _fewest_to_end(able, needs)
    return Promise(
        demand,
        ledger,
        start,
        guesses,
        _gpus_for(ledger, needs, stays),
        ledger.capacity.cpus - needs.cpus - sum(one.needs.cpus for one in stays),
        ledger.capacity.memory - needs.memory - sum(one.needs.memory for one in stays),
    )


def _fewest_to_end(
    ledgers: list[Ledger], needs: Resources
) -> tuple[Ledger, list[Holding]]:
    numbers = [_count_to_end(ledger, needs) for ledger in ledgers]
    least = min(range(len(ledgers)), key=lambda one: numbers[one])
    return ledgers[least], ledgers[least].holdings[numbers[least] :]


def _count_to_end(ledger: Ledger, needs: Resources) -> int:
    """How many of those placed there first must end until it fits."""
    cpus, memory = ledger.cpus, ledger.memory
    gpus = ledger.count_gpus(needs.gpu_memory)
    for number, one in enumerate(ledger.holdings):
        if (
            (needs.cpus <= cpus or not needs.cpus)
            and (needs.memory <= memory or not needs.memory)
            and needs.gpus <= gpus
        ):
            return number
        cpus += one.needs.cpus
        memory += one.needs.memory
        gpus += sum(_suits(ledger, index, needs) for index in one.gpus)
    return len(ledger.holdings)


def _gpus_for(
    ledger: Ledger, needs: Resources, stays: Iterable[Holding]
) -> frozenset[int]:
    """The GPUs to keep: first those that are held now, to leave the free ones to others."""
    if not needs.gpus:
        return frozenset()
    taken = {index for one in stays for index in one.gpus}
    free = {gpu.index for gpu in ledger.free_gpus}
    fit = [
        gpu
        for gpu in ledger.gpus.values()
        if gpu.index not in taken and _suits(ledger, gpu.index, needs)
    ]
    fit.sort(key=lambda gpu: (gpu.index in free, gpu.memory, gpu.index))
    return frozenset(gpu.index for gpu in fit[: needs.gpus])


def _suits(ledger: Ledger, index: int, needs: Resources) -> bool:
    gpu = ledger.gpus.get(index)
    return gpu is not None and not gpu.busy and gpu.memory >= needs.gpu_memory
