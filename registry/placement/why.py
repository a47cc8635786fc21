"""Why each task that was not placed waits, and from when on it may expect to start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from registry.placement import words
from registry.placement.forecast import FORESEEN, Forecast
from registry.placement.ledger import Ledger
from registry.placement.limits import Limits
from registry.placement.promise import Promise
from registry.placement.sizes import Size, closest, could_hold
from registry.placement.terms import Absent, Demand, Plan
from registry.placement.windows import blocking
from registry.resources import Resources

SHOWN = 5  # sentences about nodes that one task gets
NAMED = 10  # places in the line up to which the first task is named


class Account:
    """Tells the waiting tasks of one lane, which are given in the order of their turns."""

    def __init__(
        self,
        lane: str,
        ledgers: Sequence[Ledger],
        promise: Promise | None,
        limits: Limits,
        absent: Iterable[Absent],
        clock: words.Clockface,
    ) -> None:
        self.lane, self.ledgers, self.promise = lane, ledgers, promise
        self.limits, self.clock = limits, clock
        self.absent = sorted(absent)
        self.forecast = Forecast(ledgers, promise, limits)
        self.has_windows = any(ledger.windows for ledger in ledgers)
        self._fitting: dict[Resources, list[Ledger]] = {}
        self._could: dict[Resources, bool] = {}
        self._nodes: dict[Resources, tuple[list[str], int]] = {}
        self._limits: dict[tuple[int, Resources], list[str]] = {}

    def tell(
        self, waiting: Sequence[Demand], rank: Mapping[int, int], plan: Plan
    ) -> None:
        """Write the reasons and the estimated starts of all into the plan."""
        limited = {one.task: self._limited(one) for one in waiting}
        before, first = 0, None
        for demand in waiting:
            is_limited = bool(limited[demand.task])
            is_able = self._could_hold(demand.needs)
            reasons = limited[demand.task] + self._of_nodes(demand, is_limited)
            if first is not None and is_able and not is_limited:
                reasons += self._of_line(demand, first, before, rank, reasons)
            plan.waits[demand.task] = reasons
            if not is_able:
                continue
            if before < FORESEEN:
                start = self.forecast.start(demand, is_limited=is_limited)
                if start is not None:
                    plan.starts[demand.task] = start
            if not is_limited:
                first = first or demand
                before += 1

    def _limited(self, demand: Demand) -> list[str]:
        excesses = self.limits.excesses(demand)
        if not excesses:
            return []
        key = demand.owner, demand.needs
        if key not in self._limits:
            end, task = self.limits.earliest(demand)
            self._limits[key] = [
                words.limited(excess, demand, end, task, self.clock)
                for excess in excesses
            ]
        return self._limits[key]

    def _of_line(
        self,
        demand: Demand,
        first: Demand,
        before: int,
        rank: Mapping[int, int],
        reasons: list[str],
    ) -> list[str]:
        if before >= NAMED:
            return [words.line_before(before)]
        promise = self.promise
        ahead = promise.demand if promise and promise.demand != demand else first
        is_higher = rank[ahead.task] > rank[demand.task]
        if (
            promise
            and not is_higher
            and words.would_delay(promise, self.clock) in reasons
        ):
            return []
        return [words.goes_first(ahead.task, is_higher=is_higher)]

    def _of_nodes(self, demand: Demand, is_limited: bool) -> list[str]:
        needs = demand.needs
        fitting = self._fitting.get(needs)
        if fitting is None:
            fitting = self._fitting[needs] = [
                one for one in self.ledgers if one.fits(needs)
            ]
        reasons = []
        for ledger in fitting[:SHOWN]:
            reasons += self._of_fitting(ledger, demand)
        if fitting and is_limited and not reasons:
            return []
        if needs not in self._nodes:
            self._nodes[needs] = self._of_shape(needs)
        short, more = self._nodes[needs]
        room = max(0, SHOWN - len(reasons))
        reasons += short[:room]
        if self.has_windows:
            reasons += [
                words.booked(booking, one, demand, self.clock)
                for one in self.ledgers
                if not one.fits(needs) and (booking := blocking(one, demand))
            ][:SHOWN]
        more += len(short[room:])
        if more:
            reasons.append(words.more_nodes(more))
        return reasons

    def _of_fitting(self, ledger: Ledger, demand: Demand) -> list[str]:
        """Why it does not start on a node that has room for it."""
        reasons = []
        if booking := blocking(ledger, demand):
            reasons.append(words.booked(booking, ledger, demand, self.clock))
        promise = self.promise
        if (
            promise
            and promise.ledger is ledger
            and promise.demand != demand
            and not promise.allows(demand)
        ):
            reasons.append(words.would_delay(promise, self.clock))
        return reasons

    def _of_shape(self, needs: Resources) -> tuple[list[str], int]:
        """The sentences about the nodes that are nearest to have room, and of how many not."""
        if not self.ledgers:
            return [words.no_worker(self.lane), *self._absent(needs)], 0
        if not self._could_hold(needs):
            sizes = [
                Size(one.node, one.capacity, tuple(one.gpus.values()))
                for one in self.ledgers
            ]
            size = closest(sizes, needs)
            assert size is not None
            return [words.too_large(size, needs, self.lane), *self._absent(needs)], 0
        present = self.forecast.present(needs)
        if present is None:
            return [words.short_of_all(self.lane, needs)], 0
        near = sorted(
            (end, ledger.node, ledger)
            for end, ledger in zip(present, self.ledgers, strict=True)
            if not ledger.fits(needs) and ledger.could_hold(needs)
        )
        reasons = []
        for end, _, ledger in near[:SHOWN]:
            reasons.append(words.short_of(ledger, needs, end, self.clock))
            if needs.gpus > ledger.count_gpus(needs.gpu_memory):
                reasons += words.busy_gpus(ledger, needs)
        return reasons, len(near[SHOWN:])

    def _could_hold(self, needs: Resources) -> bool:
        if needs not in self._could:
            self._could[needs] = any(one.could_hold(needs) for one in self.ledgers)
        return self._could[needs]

    def _absent(self, needs: Resources) -> list[str]:
        able = [
            one
            for one in self.absent
            if could_hold(Size(one.node, one.capacity, one.gpus), needs)
        ]
        more = [words.more_absent(len(able) - SHOWN)] if len(able) > SHOWN else []
        return [words.absent(one) for one in able[:SHOWN]] + more


def tell_paused(waiting: Iterable[Demand], sentence: str, plan: Plan) -> None:
    """A paused lane has one reason for all, and no start that anybody knows."""
    reasons = [sentence]
    for demand in waiting:
        plan.waits[demand.task] = reasons
