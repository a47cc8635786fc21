"""The workers that the lane knows: found through the service registry, chosen by what they hold."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from inference.links import Place
from inference.peer import Peer
from inference.predictor import BATCH

log = logging.getLogger(__name__)

IN_FLIGHT = 2  # batches of one version at one worker: one is computed, one is read
DISCOVER_EVERY = 2.0  # seconds; more often while no worker is there


class Places(Protocol):
    async def places(self) -> tuple[list[Place], bool]:
        """The workers' lines, and whether an inference worker is up at all."""
        ...


class Crew:
    """`met` is told of each new worker, `none_up` when none is there and none will come.

    `is_wanted` says whether anybody waits for one.
    """

    def __init__(
        self,
        places: Places,
        *,
        met: Callable[[], None],
        none_up: Callable[[], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        self._places, self._met, self._none_up = places, met, none_up
        self._is_wanted = is_wanted
        self.peers: dict[Place, Peer] = {}
        self._discover_now = asyncio.Event()

    def close(self) -> None:
        for peer in list(self.peers.values()):
            peer.close()

    def choose(self, version: int, waiting: int, batch: int) -> Peer | None:
        """The worker for the next batch; None if it has to wait."""
        live = [one for one in self.peers.values() if not one.is_stuck]
        having = [one for one in live if version in one.versions or one.flying[version]]
        free = [one for one in having if one.flying[version] < IN_FLIGHT]
        if not free:
            # Another one loads the model only if it has nothing to do, or nobody has it.
            idle = [one for one in live if one not in having and not one.outstanding]
            if having:
                free = idle if waiting > (batch or BATCH) else []
            else:
                free = live
        return min(free, key=lambda one: one.outstanding, default=None)

    def seek(self) -> None:
        """Look for workers soon, if those that are known are none."""
        if all(one.is_stuck for one in self.peers.values()):
            self._discover_now.set()

    def look(self, now: float) -> None:
        """See that those with work are alive."""
        for peer in list(self.peers.values()):
            if peer.outstanding or peer.is_stuck:
                peer.look(now)
            if peer.is_stuck and any(not o.is_stuck for o in self.peers.values()):
                peer.give_up()

    async def keep_discovering(self) -> None:
        while True:
            is_any_up = True
            try:
                there, is_any_up = await self._places.places()
                await self._meet(there)
            except Exception as error:
                log.warning("The workers could not be looked up: %r", error)
            if not self.peers and not is_any_up:
                self._none_up()
            self._discover_now.clear()
            pause = DISCOVER_EVERY
            if not self.peers and self._is_wanted():
                pause = 0.2
            try:
                await asyncio.wait_for(self._discover_now.wait(), pause)
                await asyncio.sleep(0.1)
            except TimeoutError:
                pass

    async def _meet(self, there: list[Place]) -> None:
        for place, peer in list(self.peers.items()):
            if place not in there:
                peer.close()
        for place in there:
            if place in self.peers:
                continue
            try:
                self.peers[place] = await Peer.connect(place, self._lost)
            except OSError as error:
                log.info("%s cannot be reached: %s", place.name, error)
                continue
            self._met()

    def _lost(self, peer: Peer) -> None:
        if self.peers.get(peer.place) is peer:
            del self.peers[peer.place]
        self._discover_now.set()
