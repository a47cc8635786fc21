"""What one user may hold at once."""

from __future__ import annotations

import pytest

from registry.placement import Limit
from tests.registry.placement.lines import demand, holding, nodes, offer, plan

ALICE, BOB = 1, 2
HELD = [
    holding(41, 2, owner=ALICE, until=300.0),
    holding(42, 2, owner=ALICE, until=60.0),
]


@pytest.mark.parametrize(
    ("limit", "most"),
    [(Limit(tasks=3), 1), (Limit(cpus=6), 2), (Limit(gpus=0), 9), (Limit(), 9)],
)
def test_a_user_gets_no_more_than_the_limit(limit: Limit, most: int) -> None:
    line = [demand(task, owner=ALICE) for task in range(1, 10)]
    made = plan(line, [offer(cpus=64, holdings=HELD)], limits={ALICE: limit})
    assert len(made.places) == most


def test_the_limit_of_one_holds_up_nobody_else() -> None:
    line = [demand(1, 4, owner=ALICE, priority=9, waited=999), demand(2, 4, owner=BOB)]
    made = plan(line, [offer(holdings=HELD)], limits={ALICE: Limit(tasks=2)})
    assert nodes(made) == {2: "cpu@a"}
    assert made.kept == {}


def test_the_reason_tells_what_is_left_and_until_when() -> None:
    made = plan(
        [demand(1, owner=ALICE)], [offer(holdings=HELD)], limits={ALICE: Limit(tasks=2)}
    )
    assert made.waits[1] == [
        "Your limit is 2 running tasks; you may use 0 more until task 42 ends, "
        "about 09:01 UTC."
    ]
    assert made.starts[1] == 60.0


def test_every_limit_that_is_reached_is_told_beside_what_the_nodes_lack() -> None:
    made = plan(
        [demand(1, 6, gpus=0, owner=ALICE)],
        [offer(holdings=HELD)],
        limits={ALICE: Limit(tasks=2, cpus=7)},
    )
    assert made.waits[1] == [
        "Your limit is 2 running tasks; you may use 0 more until task 41 ends, "
        "about 09:05 UTC.",
        "Your limit is 7 CPUs; you may use 3 more until task 41 ends, about 09:05 UTC.",
        "Needs 6 CPUs; cpu@a has 4 free until task 42 ends, about 09:01 UTC.",
    ]


def test_one_that_no_end_can_let_in_is_told_so() -> None:
    made = plan([demand(1, 6, owner=ALICE)], [offer()], limits={ALICE: Limit(cpus=4)})
    assert made.waits[1] == ["Your limit is 4 CPUs, and this task asks for 6 CPUs."]
    assert made.starts == {}


def test_a_smaller_task_may_use_what_is_left_of_a_limit() -> None:
    line = [demand(1, 4, owner=ALICE), demand(2, 2, owner=ALICE)]
    made = plan(line, [offer(cpus=64, holdings=HELD)], limits={ALICE: Limit(cpus=6)})
    assert nodes(made) == {2: "cpu@a"}


def test_what_is_held_on_nodes_that_take_no_work_counts() -> None:
    made = plan(
        [demand(1, owner=ALICE)],
        [offer()],
        limits={ALICE: Limit(tasks=2)},
        elsewhere=HELD,
    )
    assert made.places == {}
