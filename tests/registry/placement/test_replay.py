"""Whole days of a cluster, played from traces that a seed makes."""

from __future__ import annotations

from math import inf
from statistics import mean
from typing import Any

import pytest

from registry.placement import Demand, Offer, Plan
from registry.placement.promise import PATIENCE, TRUST
from tests.registry.placement.lines import demand, offer, plan
from tests.registry.placement.replay import Job, Replay, in_turn, trace

SEEDS = [1, 2, 3]


def no_room_is_left_without_a_cause(
    replay: Replay, line: list[Demand], offers: list[Offer], plan: Plan
) -> None:
    """Whoever waits fits nowhere, or only where a start is kept for another."""
    free = {
        offer.node: 16 - sum(one.needs.cpus for one in offer.holdings)
        for offer in offers
    }
    needs = {one.task: one.needs.cpus for one in line}
    for task, where in plan.places.items():
        free[where.node] -= needs[task]
    kept = plan.kept.get("cpu")
    for task in plan.waits:
        fitting = {node for node, left in free.items() if needs[task] <= left}
        assert fitting <= ({kept.node} if kept and kept.task != task else set())
        assert plan.waits[task]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_job_starts_and_no_promised_start_is_missed(seed: int) -> None:
    jobs = trace(seed, 600, users=1, between=45.0)
    replay = Replay(jobs, check=no_room_is_left_without_a_cause)
    replay.play()
    assert all(job.started < inf for job in jobs)
    promised = [job for job in jobs if job.promised]
    assert len(promised) >= 5
    for job in promised:
        assert job.started <= min(job.promised) + 1e-3, job


@pytest.mark.parametrize("seed", SEEDS)
def test_backfill_makes_the_mean_wait_shorter(seed: int) -> None:
    with_it = trace(seed, 600, users=1, between=45.0)
    without = trace(seed, 600, users=1, between=45.0)
    Replay(with_it).play()
    Replay(without, policy=in_turn).play()
    assert mean(job.waited for job in with_it) < mean(job.waited for job in without)


@pytest.mark.parametrize("seed", SEEDS)
def test_many_users_all_come_to_their_turn(seed: int) -> None:
    jobs = trace(seed, 500, users=7, between=50.0)
    Replay(jobs, check=no_room_is_left_without_a_cause).play()
    assert all(job.started < inf for job in jobs)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_users_with_long_lines_get_the_same(seed: int) -> None:
    """Though one came first and with small tasks, and the other late and with wide ones."""
    jobs = trace(seed, 500, users=2, between=0.001)
    for job in jobs:
        job.user = int(job.number > 250)
        job.submitted = 300.0 * job.user
        job.runs = min(job.runs, 900.0)
        job.cpus = min(job.cpus, 4) if job.user == 0 else job.cpus
    replay = Replay(jobs)
    replay.play(until=3_000)
    waiting = {job.user for job in replay.line.values()}
    assert waiting == {0, 1}
    one, other = (replay.had[user] for user in (0, 1))
    assert abs(one - other) < 0.1 * max(one, other)


def stream(**fields: Any) -> list[Job]:
    """Two tasks each second that keep two nodes full for ever."""
    return [Job(n, n / 2, cpus=1, **fields) for n in range(2, 1400)]


def test_small_ones_without_limits_do_not_starve_a_big_one() -> None:
    big = Job(1, 30.5, 100.0, 16, None)
    replay = Replay([*stream(runs=17.0, limit=None), big], nodes=2)
    replay.play(until=120.0)
    assert big.waited <= PATIENCE + 18.0


def test_nor_do_those_that_always_take_longer_than_usual() -> None:
    big = Job(1, 30.5, 100.0, 16, None, usual=100.0)
    small = stream(runs=17.0, limit=None, usual=5.0)
    Replay([*small, big], nodes=2).play(until=650.0)
    assert big.waited <= TRUST + 18.0


def test_nor_do_other_users_with_limits() -> None:
    big = Job(1, 30.5, 100.0, 16, 500.0, user=9)
    small = stream(runs=17.0, limit=20.0)
    for job in small:
        job.user = job.number % 5
    Replay([*small, big], nodes=2).play(until=120.0)
    assert big.waited <= 21.0


def test_a_small_one_starts_behind_a_big_one_that_cannot() -> None:
    jobs = [
        Job(1, 0.0, 600.0, 12, None),
        Job(2, 1.0, 10.0, 16, None),
        Job(3, 2.0, 10.0, 4, None),
    ]
    Replay(jobs, nodes=1).play()
    assert [job.started for job in jobs] == [0.0, 600.0, 2.0]


def test_the_same_trace_gives_the_same_starts() -> None:
    runs = []
    for _ in range(2):
        jobs = trace(5, 200, users=3, between=40.0)
        Replay(jobs).play()
        runs.append([job.started for job in jobs])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("nodes", [1, 2, 4])
@pytest.mark.parametrize(("cpus", "at_once"), [(1, 64), (8, 8)])
def test_what_runs_at_once_grows_with_the_nodes(
    nodes: int, cpus: int, at_once: int
) -> None:
    line = [demand(task, cpus) for task in range(1, 400)]
    made = plan(line, [offer(f"cpu@{n}", 64) for n in range(nodes)])
    assert len(made.places) == nodes * at_once
