"""Whose task is next."""

from __future__ import annotations

import pytest

from registry.placement.order import AGING
from tests.registry.placement.lines import demand, holding, nodes, offer, plan

ALICE, BOB, CAROL = 1, 2, 3


def test_first_come_is_first_served_on_the_first_node_that_fits() -> None:
    line = [demand(1, 6), demand(2, 4), demand(3, 2), demand(4, 4)]
    made = plan(line, [offer("cpu@b"), offer("cpu@a")])
    assert nodes(made) == {1: "cpu@a", 2: "cpu@b", 3: "cpu@a", 4: "cpu@b"}


def test_priority_goes_before_order_of_arrival() -> None:
    line = [demand(1, 8), demand(2, 8, priority=1)]
    assert nodes(plan(line, [offer()])) == {2: "cpu@a"}


def test_ten_minutes_of_waiting_count_as_a_point_of_priority() -> None:
    young = [demand(1, 8, waited=2 * AGING - 1), demand(2, 8, priority=2)]
    assert nodes(plan(young, [offer()])) == {2: "cpu@a"}
    old = [demand(1, 8, waited=2 * AGING), demand(2, 8, priority=2)]
    assert nodes(plan(old, [offer()])) == {1: "cpu@a"}


def test_waiting_lifts_nobody_above_what_others_asked_for() -> None:
    """Or a long line from yesterday would go before everybody's tasks of today."""
    line = [demand(1, 8, owner=ALICE, waited=9e5), demand(2, 8, owner=BOB)]
    made = plan(line, [offer()], uses={ALICE: 1000.0, BOB: 0.0})
    assert nodes(made) == {2: "cpu@a"}


def test_who_used_less_of_late_goes_first() -> None:
    line = [demand(1, 8, owner=ALICE), demand(2, 8, owner=BOB)]
    assert nodes(plan(line, [offer()], uses={ALICE: 9.0})) == {2: "cpu@a"}
    assert nodes(plan(line, [offer()], uses={BOB: 9.0})) == {1: "cpu@a"}


def test_what_the_pass_places_counts_at_once() -> None:
    line = [demand(task, owner=ALICE if task <= 20 else BOB) for task in range(1, 41)]
    placed = nodes(plan(line, [offer()])).keys()
    assert placed == {1, 2, 3, 4, 21, 22, 23, 24}


def test_what_a_user_holds_counts() -> None:
    held = [holding(90 + number, owner=ALICE) for number in range(3)]
    line = [demand(task, owner=ALICE if task <= 20 else BOB) for task in range(1, 41)]
    placed = nodes(plan(line, [offer(holdings=held)])).keys()
    assert placed == {1, 21, 22, 23, 24}


def test_what_a_user_holds_elsewhere_counts_too() -> None:
    held = [holding(90 + number, owner=ALICE) for number in range(8)]
    line = [demand(task, owner=ALICE if task <= 20 else BOB) for task in range(1, 41)]
    placed = nodes(plan(line, [offer()], elsewhere=held)).keys()
    assert placed == set(range(21, 29))


@pytest.mark.parametrize("users", [2, 3, 5])
def test_long_lines_share_a_node_to_within_one_task(users: int) -> None:
    line = [
        demand(1000 * owner + n, owner=owner)
        for owner in range(users)
        for n in range(50)
    ]
    placed = plan(line, [offer(cpus=17)]).places
    counts = [sum(task // 1000 == owner for task in placed) for owner in range(users)]
    assert sum(counts) == 17
    assert max(counts) - min(counts) <= 1


def test_the_plan_does_not_hang_on_the_order_of_its_arguments() -> None:
    line = [demand(task, 1 + task % 3, owner=task % 4) for task in range(1, 60)]
    offers = [offer(f"cpu@{name}") for name in "abc"]
    assert plan(line, offers) == plan(line[::-1], offers[::-1])
