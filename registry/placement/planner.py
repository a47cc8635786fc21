"""One pass: who starts where, whose start is kept, and why the others wait."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from registry.placement.ledger import Ledger, end_of_demand
from registry.placement.limits import Limits
from registry.placement.order import ahead, in_order, ranks
from registry.placement.promise import PATIENCE, TRUST, Promise, promise
from registry.placement.terms import (
    Absent,
    Booking,
    Demand,
    Holding,
    Limit,
    Offer,
    Place,
    Plan,
)
from registry.placement.why import Account, tell_paused
from registry.placement.windows import blocking, open_windows
from registry.placement.words import Clockface
from registry.resources import Resources


def place(
    line: Iterable[Demand],
    offers: Iterable[Offer],
    bookings: Iterable[Booking] = (),
    limits: Mapping[int, Limit] | None = None,
    uses: Mapping[int, float] | None = None,
    *,
    moment: datetime.datetime,
    paused: Mapping[str, str] | None = None,
    elsewhere: Iterable[Holding] = (),
    absent: Iterable[Absent] = (),
) -> Plan:
    """Give each task that may start a node, and tell the others why they wait.

    `uses` are weighted CPU-seconds by owner, as they count now; `paused` a sentence by
    lane; `elsewhere` what is placed on nodes that are not offered, which counts against
    its owners; `absent` those nodes. The same arguments give the same plan.
    """
    line, elsewhere, paused = list(line), list(elsewhere), paused or {}
    offers = sorted(offers, key=lambda offer: offer.node)
    ledgers = [Ledger(offer) for offer in offers]
    open_windows(ledgers, bookings)
    lanes: dict[str, Lane] = {
        lane: Lane(lane, [one for one in ledgers if one.lane == lane])
        for lane in {demand.lane for demand in line}
    }
    held = list(chain(elsewhere, *(offer.holdings for offer in offers)))
    counted = Limits(limits or {}, held)
    shares = dict(uses or {})
    for one in held:
        shares[one.owner] = shares.get(one.owner, 0.0) + ahead(one.needs)

    plan, rank = Plan(), ranks(line)
    waiting: list[Demand] = []
    for demand in in_order(line, rank, shares):
        lane = lanes[demand.lane]
        found = None
        if demand.lane not in paused and not counted.excesses(demand):
            found = lane.place(demand)
        if found is None:
            waiting.append(demand)
            continue
        plan.places[demand.task], holding = found
        counted.hold(holding)
        shares[demand.owner] += ahead(demand.needs)

    by_turn: dict[str, list[Demand]] = defaultdict(list)
    for demand in in_order(waiting, rank, shares):
        by_turn[demand.lane].append(demand)
        shares[demand.owner] += ahead(demand.needs)
    clock = Clockface(moment)
    absent = list(absent)
    for name, turns in by_turn.items():
        if name in paused:
            tell_paused(turns, paused[name], plan)
            continue
        lane = lanes[name]
        gone = [one for one in absent if one.lane == name]
        account = Account(name, lane.ledgers, lane.promise, counted, gone, clock)
        account.tell(turns, rank, plan)
        if lane.promise is not None:
            plan.kept[name] = lane.promise.kept()
    return plan


class Lane:
    """The nodes of one lane during a pass."""

    def __init__(self, name: str, ledgers: Sequence[Ledger]) -> None:
        self.name, self.ledgers = name, ledgers
        self.promise: Promise | None = None
        self._rooms: dict[Resources, list[Ledger]] = {}
        self._in_vain: set[tuple[object, ...]] = set()
        self._most: tuple[int, int] | None = None

    def place(self, demand: Demand) -> tuple[Place, Holding] | None:
        """Take room for it by first fit, or keep a start for it if it is the first in vain."""
        ledger = self._room_for(demand)
        if ledger is None:
            if self.promise is None:
                self._keep(demand)
            return None
        needs, kept = demand.needs, self.promise
        is_kept = kept is not None and kept.ledger is ledger
        gpus = ledger.pick_gpus(needs, kept.gpus if kept and is_kept else ())
        end = end_of_demand(demand, guesses=True)
        holding = Holding(
            demand.task, needs, gpus, end, demand.owner, promised=demand.is_limit
        )
        if kept is not None and is_kept:
            kept.note(demand)
        ledger.hold(holding)
        self._most = None
        return Place(ledger.node, gpus), holding

    def _room_for(self, demand: Demand) -> Ledger | None:
        """The first node by name that has room; the kept one only after all others."""
        needs, kept = demand.needs, self.promise
        if self._most is None:
            self._most = (
                max((one.cpus for one in self.ledgers), default=0),
                max((len(one.free_gpus) for one in self.ledgers), default=0),
            )
        if (needs.cpus and needs.cpus > self._most[0]) or needs.gpus > self._most[1]:
            return None
        rooms = self._rooms.get(needs)
        if rooms is None:
            rooms = self._rooms[needs] = list(self.ledgers)
        last, number = None, 0
        while number < len(rooms):
            ledger = rooms[number]
            if not ledger.fits(needs):
                rooms.pop(number)
                continue
            number += 1
            if ledger.windows and blocking(ledger, demand):
                continue
            if kept is not None and kept.ledger is ledger:
                last = ledger
                continue
            return ledger
        return last if last is not None and kept and kept.allows(demand) else None

    def _keep(self, demand: Demand) -> None:
        key = (
            demand.needs,
            demand.waited < PATIENCE,
            demand.waited < TRUST,
            *((demand.owner, demand.lasts) if self._has_windows() else ()),
        )
        if key not in self._in_vain:
            self.promise = promise(demand, self.ledgers)
            if self.promise is None:
                self._in_vain.add(key)

    def _has_windows(self) -> bool:
        return any(ledger.windows for ledger in self.ledgers)
