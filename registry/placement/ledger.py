"""The account of one node during a pass: what is free, who holds the rest, until when."""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from registry.placement.terms import Booking, Demand, Gpu, Holding, Offer
from registry.placement.track import Device, Release, Track
from registry.resources import Resources

SOON = 5.0  # seconds in which what is over its limit is gone


class Ledger:
    """A node's free part, derived from what it holds."""

    def __init__(self, offer: Offer) -> None:
        self.node, self.lane, self.capacity = offer.node, offer.lane, offer.capacity
        self.gpus = {gpu.index: gpu for gpu in offer.gpus} or {
            index: Gpu(index) for index in range(offer.capacity.gpus)
        }
        self.usable = sum(not gpu.busy for gpu in self.gpus.values())
        self.cpus, self.memory = offer.capacity.cpus, offer.capacity.memory
        # In the order in which they are given out: the smallest that will do.
        self.free_gpus = sorted(
            (gpu for gpu in self.gpus.values() if not gpu.busy),
            key=lambda gpu: (gpu.memory, gpu.index),
        )
        self.holdings: list[Holding] = []
        self.windows: list[Booking] = []
        self._tracks: dict[bool, Track] = {}
        vague = []
        for holding in offer.holdings:
            needs = holding.needs
            if needs.gpus > len(holding.gpus):
                vague.append(holding)
                continue
            self.cpus -= needs.cpus
            self.memory -= needs.memory
            self.holdings.append(holding)
        held = {index for holding in self.holdings for index in holding.gpus}
        if held:
            self.free_gpus = [one for one in self.free_gpus if one.index not in held]
        for holding in vague:  # whose GPUs are not written down
            spare = [gpu.index for gpu in self.free_gpus]
            gpus = (*holding.gpus, *spare)[: holding.needs.gpus]
            self.hold(holding._replace(gpus=gpus))

    def hold(self, holding: Holding) -> None:
        """Put it on the node, whether there is room or not."""
        self.cpus -= holding.needs.cpus
        self.memory -= holding.needs.memory
        self.holdings.append(holding)
        if holding.gpus:
            self.free_gpus = [
                gpu for gpu in self.free_gpus if gpu.index not in holding.gpus
            ]
        self._tracks.clear()

    def fits(self, needs: Resources) -> bool:
        """Whether it could start now; what asks for nothing of a thing needs none of it."""
        return (
            (needs.cpus <= self.cpus or not needs.cpus)
            and (needs.memory <= self.memory or not needs.memory)
            and (not needs.gpus or self.count_gpus(needs.gpu_memory) >= needs.gpus)
        )

    def could_hold(self, needs: Resources, *, with_busy: bool = True) -> bool:
        """Whether it fits on the empty node, with or without GPUs that others use."""
        return (
            needs.cpus <= self.capacity.cpus
            and needs.memory <= self.capacity.memory
            and (
                not needs.gpus
                or needs.gpus
                <= sum(
                    gpu.memory >= needs.gpu_memory and (with_busy or not gpu.busy)
                    for gpu in self.gpus.values()
                )
            )
        )

    def count_gpus(self, memory: int) -> int:
        """Free GPUs with at least that much memory, in bytes."""
        if not memory:
            return len(self.free_gpus)
        return sum(gpu.memory >= memory for gpu in self.free_gpus)

    def pick_gpus(
        self, needs: Resources, avoid: Collection[int] = ()
    ) -> tuple[int, ...]:
        """The indexes of free GPUs for it, those to avoid only if there are no others."""
        if not needs.gpus:
            return ()
        fit = [gpu.index for gpu in self.free_gpus if gpu.memory >= needs.gpu_memory]
        fit.sort(key=lambda index: index in avoid)  # stable
        return tuple(sorted(fit[: needs.gpus]))

    def track(self, *, guesses: bool) -> Track:
        """Its free part over time, by promised ends alone or by guessed ones too."""
        track = self._tracks.get(guesses)
        if track is None:
            track = self._tracks[guesses] = self._lay_track(guesses)
        return track

    def held_at(
        self, moment: float, owners: Collection[int] | None = None
    ) -> Resources:
        """What is surely or perhaps still held then, by all or by those owners.

        Only promises count: what has no time limit may last for ever.
        """
        held = [
            one.needs
            for one in self.holdings
            if (owners is None or one.owner in owners)
            and end_of(one, guesses=False) > moment
        ]
        return Resources(
            sum(needs.cpus for needs in held),
            sum(needs.gpus for needs in held),
            sum(needs.memory for needs in held),
        )

    def _lay_track(self, guesses: bool) -> Track:
        releases: list[Release] = []
        ends: dict[int, tuple[float, int]] = {}
        for one in self.holdings:
            end, needs = end_of(one, guesses=guesses), one.needs
            if end < inf:
                releases.append(Release(end, needs.cpus, needs.memory, one.task))
            for gpu in one.gpus:
                ends[gpu] = end, one.task
        devices = [
            Device(gpu.index, gpu.memory, *ends.get(gpu.index, (0.0, 0)))
            for gpu in self.gpus.values()
            if not gpu.busy
        ]
        return Track(self.cpus, self.memory, releases, devices)


def end_of(holding: Holding, *, guesses: bool) -> float:
    """When it ends, in seconds from now; infinite if unknown, as a guess is that proved wrong."""
    ends = holding.ends
    if ends is None or not (holding.promised or guesses):
        return inf
    if ends > 0:
        return ends
    return SOON if holding.promised else inf


def end_of_demand(demand: Demand, *, guesses: bool) -> float:
    """When it would end if it started now, in seconds; infinite if unknown."""
    if demand.lasts is None or not (demand.is_limit or guesses):
        return inf
    return demand.lasts
