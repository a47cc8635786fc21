"""When how much of a node becomes free, if nothing more comes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate
from math import inf
from typing import NamedTuple

from registry.resources import Resources


class Release(NamedTuple):
    """What an end gives back."""

    at: float
    cpus: int
    memory: int
    task: int


class Device(NamedTuple):
    """A GPU, from when it is free, and the task that has it till then."""

    gpu: int
    memory: int
    at: float
    task: int


class Track:
    """The free part of a node over time. It only grows, so a search may halve it.

    `at[0]` is the present and `at[n]` the n-th end that is known; `cpus[n]` and
    `memory[n]` are free from then on.
    """

    __slots__ = ("at", "cpus", "devices", "memory", "releases")

    def __init__(
        self,
        cpus: int,
        memory: int,
        releases: Iterable[Release],
        devices: list[Device],
        since: float = 0.0,
    ) -> None:
        self.releases = sorted(releases)
        self.devices = devices
        self.at = [since, *(one.at for one in self.releases)]
        self.cpus = list(accumulate((one.cpus for one in self.releases), initial=cpus))
        freed = (one.memory for one in self.releases)
        self.memory = list(accumulate(freed, initial=memory))

    def earliest(self, needs: Resources) -> float:
        """The first moment when it fits; infinite if that hangs on unknown ends."""
        number = bisect_left(self.cpus, needs.cpus) if needs.cpus else 0
        if needs.memory:
            number = max(number, bisect_left(self.memory, needs.memory))
        if number == len(self.at):
            return inf
        if needs.gpus:
            return max(self.at[number], self._devices_free(needs)[0])
        return self.at[number]

    def last_to_end(self, needs: Resources) -> int | None:
        """The task whose end makes room for it at its earliest moment."""
        number = bisect_left(self.cpus, needs.cpus) if needs.cpus else 0
        if needs.memory:
            number = max(number, bisect_left(self.memory, needs.memory))
        at, task = self._devices_free(needs) if needs.gpus else (-inf, 0)
        if number == len(self.at) or at == inf:
            return None
        if number and self.at[number] >= at:
            return self.releases[number - 1].task
        return task or None

    def with_one_more(self, needs: Resources, start: float, end: float) -> Track:
        """The track as it is once a task has begun there at `start`, for what comes later."""
        past = bisect_right(self.at, start, 1) - 1
        releases = self.releases[past:]
        if end < inf:
            releases.append(Release(end, needs.cpus, needs.memory, 0))
        devices = self.devices
        if needs.gpus:
            fit = [one for one in devices if one.memory >= needs.gpu_memory]
            fit.sort(key=lambda one: (one.at, one.memory, one.gpu))
            taken = {one.gpu for one in fit[: needs.gpus]}
            devices = [
                one._replace(at=end, task=0) if one.gpu in taken else one
                for one in devices
            ]
        cpus, memory = self.cpus[past] - needs.cpus, self.memory[past] - needs.memory
        return Track(cpus, memory, releases, devices, start)

    def _devices_free(self, needs: Resources) -> tuple[float, int]:
        ends = sorted(
            (one.at, one.task) for one in self.devices if one.memory >= needs.gpu_memory
        )
        return ends[needs.gpus - 1] if needs.gpus <= len(ends) else (inf, 0)
