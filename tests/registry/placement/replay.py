"""A cluster that is played: jobs of a trace, a clock that jumps, and a policy."""

from __future__ import annotations

import datetime
import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf

from registry.placement import Demand, Holding, Offer, Plan, place
from registry.resources import Resources
from tests.registry.placement.lines import NINE

HALF_LIFE = 86_400.0

Policy = Callable[
    [list[Demand], list[Offer], dict[int, float], datetime.datetime], Plan
]


@dataclass
class Job:
    """A line of a trace, as the Standard Workload Format has it; times in seconds."""

    number: int
    submitted: float
    runs: float
    cpus: int
    limit: float | None
    user: int = 0
    usual: float | None = None
    started: float = inf
    promised: list[float] = field(default_factory=list)

    @property
    def waited(self) -> float:
        return self.started - self.submitted


def trace(seed: int, jobs: int, *, users: int, between: float) -> list[Job]:
    """Jobs like those of real clusters: most small and short, a few wide, limits generous."""
    chance, now, made = random.Random(seed), 0.0, []
    for number in range(1, jobs + 1):
        now += chance.expovariate(1 / between)
        runs = min(max(chance.lognormvariate(5, 1.5), 5), 20_000)
        cpus = chance.choices((1, 2, 4, 8, 16), (40, 20, 20, 12, 8))[0]
        limit = runs * chance.choice((1.0, 1.2, 2.0, 5.0))
        made.append(Job(number, now, runs, cpus, limit, chance.randrange(users)))
    return made


def backfill(
    line: list[Demand],
    offers: list[Offer],
    uses: dict[int, float],
    moment: datetime.datetime,
) -> Plan:
    return place(line, offers, uses=uses, moment=moment)


def in_turn(
    line: list[Demand],
    offers: list[Offer],
    uses: dict[int, float],
    moment: datetime.datetime,
) -> Plan:
    """First come, first served: nobody passes one that waits."""
    plan = Plan()
    for demand in sorted(line, key=lambda one: one.task):
        one = place([demand], offers, moment=moment)
        if not one.places:
            break
        plan.places |= one.places
        for offer in offers:
            if offer.node == one.places[demand.task].node:
                offer.holdings = [*offer.holdings, Holding(demand.task, demand.needs)]
    return plan


class Replay:
    """Plays the jobs over nodes of 16 CPUs; a pass at each arrival and each end."""

    def __init__(
        self,
        jobs: Iterable[Job],
        nodes: int = 4,
        policy: Policy = backfill,
        check: Callable[[Replay, list[Demand], list[Offer], Plan], None] | None = None,
    ) -> None:
        self.jobs = {job.number: job for job in jobs}
        self.policy, self.check = policy, check
        self.running: dict[str, list[Job]] = {f"cpu@{n}": [] for n in range(nodes)}
        self.line: dict[int, Job] = {}
        self.now = 0.0
        self.used: dict[int, float] = {}
        self.had: dict[int, float] = {}
        self.passes = 0

    def play(self, until: float = inf) -> None:
        arrivals = sorted(self.jobs.values(), key=lambda job: job.submitted)
        ends: list[tuple[float, int, str]] = []
        while arrivals or ends:
            moment = min(
                arrivals[0].submitted if arrivals else inf, ends[0][0] if ends else inf
            )
            if moment > until:
                return
            self._pass_time(moment)
            while arrivals and arrivals[0].submitted <= moment:
                job = arrivals.pop(0)
                self.line[job.number] = job
            while ends and ends[0][0] <= moment:
                _, number, node = heapq.heappop(ends)
                self.running[node].remove(self.jobs[number])
            for job, node in self._pass():
                heapq.heappush(ends, (self.now + job.runs, job.number, node))

    def _pass_time(self, moment: float) -> None:
        passed = moment - self.now
        for user in self.used:
            self.used[user] *= 0.5 ** (passed / HALF_LIFE)
        for jobs in self.running.values():
            for job in jobs:
                took = job.cpus * passed
                self.used[job.user] = self.used.get(job.user, 0.0) + took
                self.had[job.user] = self.had.get(job.user, 0.0) + took
        self.now = moment

    def _pass(self) -> list[tuple[Job, str]]:
        line = [self._demand(job) for job in self.line.values()]
        plan = self.policy(line, self._offers(), dict(self.used), self._moment())
        self.passes += 1
        if self.check is not None:
            self.check(self, line, self._offers(), plan)
        for kept in plan.kept.values():
            if kept.starts is not None:
                self.jobs[kept.task].promised.append(self.now + kept.starts)
        begun = []
        for number, where in plan.places.items():
            job = self.line.pop(number)
            job.started = self.now
            self.running[where.node].append(job)
            assert sum(one.cpus for one in self.running[where.node]) <= 16
            begun.append((job, where.node))
        return begun

    def _moment(self) -> datetime.datetime:
        return NINE + datetime.timedelta(seconds=self.now)

    def _demand(self, job: Job) -> Demand:
        lasts = job.limit if job.limit is not None else job.usual
        return Demand(
            job.number,
            "cpu",
            Resources(job.cpus),
            job.user,
            waited=self.now - job.submitted,
            lasts=lasts,
            is_limit=job.limit is not None,
        )

    def _offers(self) -> list[Offer]:
        return [
            Offer(
                node,
                "cpu",
                Resources(16),
                (),
                [
                    Holding(
                        job.number,
                        Resources(job.cpus),
                        (),
                        self._ends(job),
                        job.user,
                        job.limit is not None,
                    )
                    for job in jobs
                ],
            )
            for node, jobs in self.running.items()
        ]

    def _ends(self, job: Job) -> float | None:
        lasts = job.limit if job.limit is not None else job.usual
        return None if lasts is None else job.started + lasts - self.now
