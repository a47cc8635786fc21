"""Reservations keep a node, or a part of one, for some users in a time window."""

from __future__ import annotations

from typing import Any

import pytest

from registry.placement import Booking, Gpu, Place
from registry.resources import GIB, Resources
from tests.registry.placement.lines import demand, holding, nodes, offer, plan

ALICE, BOB = 1, 2
HOUR = 3600.0


def booking(starts: float = HOUR, ends: float = 3 * HOUR, **fields: Any) -> Booking:
    kept = {"name": "maintenance", "lane": "cpu", "node": "cpu@a", "needs": None}
    return Booking(**{**kept, "starts": starts, "ends": ends, **fields})


def test_before_the_window_only_what_ends_in_time_starts() -> None:
    line = [
        demand(1, limit=HOUR),
        demand(2, limit=HOUR + 1),
        demand(3, usual=60.0),
        demand(4),
    ]
    made = plan(line, [offer()], bookings=[booking()])
    assert nodes(made) == {1: "cpu@a"}
    said = "cpu@a is reserved as maintenance from 10:00 to 12:00 UTC"
    assert made.waits[2][0] == f"{said}."
    assert made.waits[3][0] == made.waits[4][0]
    assert made.waits[4][0] == f"{said}, and this task has no time limit."
    assert made.starts[2] == 3 * HOUR


def test_within_the_window_only_its_users_start() -> None:
    line = [demand(1, owner=BOB, limit=1), demand(2, owner=ALICE)]
    now = booking(-60.0, 60.0, owners=frozenset({ALICE}))
    assert nodes(plan(line, [offer()], bookings=[now])) == {2: "cpu@a"}


def test_after_the_window_all_is_as_before() -> None:
    made = plan([demand(1)], [offer()], bookings=[booking(-60.0, 0.0)])
    assert nodes(made) == {1: "cpu@a"}


def test_another_node_is_free() -> None:
    made = plan([demand(1)], [offer(), offer("cpu@b")], bookings=[booking()])
    assert nodes(made) == {1: "cpu@b"}


def test_a_part_of_a_node_leaves_the_rest() -> None:
    line = [demand(task, 2) for task in (1, 2, 3)]
    made = plan(line, [offer()], bookings=[booking(needs=Resources(3))])
    assert made.places.keys() == {1, 2}
    assert made.waits[3] == [
        "3 CPUs of cpu@a are reserved as maintenance from 10:00 to 12:00 UTC, "
        "and this task has no time limit."
    ]


def test_what_will_still_run_when_the_window_opens_counts() -> None:
    held = [holding(8, 2), holding(9, 4, until=HOUR)]
    kept = [booking(needs=Resources(4))]
    made = plan(
        [demand(1, 2), demand(2, 2)], [offer(cpus=10, holdings=held)], bookings=kept
    )
    assert made.places.keys() == {1, 2}
    held = [holding(8, 4), holding(9, 4, until=HOUR)]
    made = plan(
        [demand(1, 2), demand(2, 2)], [offer(cpus=12, holdings=held)], bookings=kept
    )
    assert made.places.keys() == {1, 2}
    made = plan(
        [demand(1, 2), demand(2, 2), demand(3, 2)],
        [offer(cpus=16, holdings=[holding(8, 8)])],
        bookings=kept,
    )
    assert made.places.keys() == {1, 2}


def test_what_its_users_hold_is_used_of_what_is_reserved() -> None:
    held = [holding(9, 4, owner=ALICE)]
    now = booking(-60.0, 60.0, needs=Resources(4), owners=frozenset({ALICE}))
    made = plan([demand(1, 4, owner=BOB)], [offer(holdings=held)], bookings=[now])
    assert nodes(made) == {1: "cpu@a"}


def test_gpus_are_reserved_too() -> None:
    kept = [booking(-1.0, needs=Resources(0, 1), lane="gpu", node="gpu@a")]
    line = [demand(task, lane="gpu", gpus=1) for task in (1, 2)]
    made = plan(line, [offer("gpu@a", gpus=[Gpu(0), Gpu(1)])], bookings=kept)
    assert made.places == {1: Place("gpu@a", (0,))}


def test_without_a_node_it_is_on_the_smallest_that_holds_it() -> None:
    offers = [offer("cpu@a", 16), offer("cpu@b", 4), offer("cpu@c", 8)]
    kept = booking(node=None, needs=Resources(6, 0, GIB))
    line = [demand(1, 16), demand(2, 4), demand(3, 8)]
    made = plan(line, offers, bookings=[kept])
    assert nodes(made) == {1: "cpu@a", 2: "cpu@b"}


def test_two_without_a_node_do_not_share_what_is_too_small_for_both() -> None:
    offers = [offer("cpu@a", 8), offer("cpu@b", 8)]
    kept = [booking(name=name, node=None, needs=Resources(6)) for name in ("x", "y")]
    made = plan([demand(1, 2), demand(2, 2), demand(3, 1)], offers, bookings=kept)
    assert nodes(made) == {1: "cpu@a", 2: "cpu@b"}


@pytest.mark.parametrize("lane", ["gpu", "inference"])
def test_another_lane_is_not_touched(lane: str) -> None:
    made = plan([demand(1)], [offer()], bookings=[booking(lane=lane, node=None)])
    assert nodes(made) == {1: "cpu@a"}


def test_the_first_in_line_is_promised_a_start_after_the_window() -> None:
    held = [holding(9, 8, until=60.0)]
    made = plan([demand(1, 8)], [offer(holdings=held)], bookings=[booking()])
    assert made.kept["cpu"].starts == 3 * HOUR
    made = plan([demand(1, 8, limit=60)], [offer(holdings=held)], bookings=[booking()])
    assert made.kept["cpu"].starts == 60.0
