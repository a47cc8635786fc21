"""The placement as a pure function."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registry.resources import GIB, Resources
from registry.scheduler import Demand, Offer, Plan, first_fit

NOTHING = Resources(0, 0, 0)


def demand(task: int, cpus: int = 1, lane: str = "cpu", **needs: int) -> Demand:
    return Demand(task, lane, Resources(cpus, **needs))


def offer(node: str, cpus: int = 4, gpus: int = 0, memory: int = 8 * GIB) -> Offer:
    return Offer(node, node.partition("@")[0], Resources(cpus, gpus, memory))


def test_the_first_in_line_gets_the_first_node_that_fits() -> None:
    plan = first_fit(
        [demand(1, 3), demand(2, 2), demand(3, 1), demand(4, 2)],
        [offer("cpu@a"), offer("cpu@b")],
    )
    assert plan == Plan({1: "cpu@a", 2: "cpu@b", 3: "cpu@a", 4: "cpu@b"}, {})


def test_what_does_not_fit_does_not_hold_up_what_does() -> None:
    plan = first_fit([demand(1, 8), demand(2, 1)], [offer("cpu@a")])
    assert plan.places == {2: "cpu@a"}
    assert plan.waits == {1: ["Needs 8 CPUs; cpu@a has 4 free."]}


def test_every_node_of_the_lane_says_all_that_it_lacks() -> None:
    plan = first_fit(
        [demand(1, 3, gpus=1, memory=9 * GIB)],
        [offer("cpu@a", 2), offer("cpu@b", 4, 1), offer("gpu@a", 9, 9, 99 * GIB)],
    )
    assert plan.waits[1] == [
        "Needs 3 CPUs; cpu@a has 2 free, and 1 GPUs; cpu@a has 0 free, and "
        "9.0 GiB of memory; cpu@a has 8.0 GiB free.",
        "Needs 9.0 GiB of memory; cpu@b has 8.0 GiB free.",
    ]


def test_what_is_overdrawn_shows_as_nothing_free() -> None:
    overdrawn = Offer("cpu@a", "cpu", Resources(-2, 0, -GIB))
    plan = first_fit([demand(1, memory=GIB)], [overdrawn])
    assert plan.waits[1] == [
        "Needs 1 CPUs; cpu@a has 0 free, and 1.0 GiB of memory; cpu@a has 0.0 GiB free."
    ]


def test_another_lane_is_no_place() -> None:
    plan = first_fit([demand(1, lane="gpu")], [offer("cpu@a")])
    assert plan == Plan({}, {1: ["No gpu worker is up."]})


def test_without_nodes_all_wait() -> None:
    assert first_fit([demand(1)], []).waits == {1: ["No cpu worker is up."]}


def test_an_empty_line_is_an_empty_plan() -> None:
    assert first_fit([], [offer("cpu@a")]) == Plan()


LANES = st.sampled_from(["cpu", "gpu"])
SIZES = st.builds(
    Resources, st.integers(0, 5), st.integers(0, 2), st.integers(0, 4).map(GIB.__mul__)
)
LINES = st.lists(st.tuples(LANES, SIZES), max_size=12).map(
    lambda rows: [Demand(number, *row) for number, row in enumerate(rows)]
)
OFFERS = st.lists(st.tuples(LANES, SIZES), max_size=4).map(
    lambda rows: [
        (f"{lane}@{number}", lane, size) for number, (lane, size) in enumerate(rows)
    ]
)
Offered = list[tuple[str, str, Resources]]


def planned(line: list[Demand], offered: Offered) -> tuple[Plan, dict[str, Resources]]:
    """The plan, and what is left of each node when it is carried out."""
    plan = first_fit(line, [Offer(*one) for one in offered])
    left = {node: size for node, _, size in offered}
    for one in line:
        if one.task in plan.places:
            node = plan.places[one.task]
            left[node] = left[node].minus(one.needs)
    return plan, left


@given(LINES, OFFERS)
def test_no_plan_overcommits_a_node(line: list[Demand], offered: Offered) -> None:
    plan, left = planned(line, offered)
    assert all(NOTHING.fits(free) for free in left.values())
    lanes = {node: lane for node, lane, _ in offered}
    for one in line:
        assert one.task not in plan.places or lanes[plan.places[one.task]] == one.lane


@given(LINES, OFFERS)
def test_every_task_is_placed_or_told_why_not(
    line: list[Demand], offered: Offered
) -> None:
    plan, _ = planned(line, offered)
    assert plan.places.keys() | plan.waits.keys() == {one.task for one in line}
    assert not plan.places.keys() & plan.waits.keys()
    assert all(reasons and all(reasons) for reasons in plan.waits.values())


@given(LINES, OFFERS)
def test_no_node_idles_while_a_task_fits(line: list[Demand], offered: Offered) -> None:
    plan, left = planned(line, offered)
    for one in line:
        if one.task in plan.waits:
            lane = [left[node] for node, lane, _ in offered if lane == one.lane]
            assert not any(one.needs.fits(free) for free in lane)


@given(LINES, OFFERS)
def test_who_comes_later_changes_nothing_for_those_before(
    line: list[Demand], offered: Offered
) -> None:
    plan, _ = planned(line, offered)
    for length in range(len(line)):
        earlier, _ = planned(line[:length], offered)
        tasks = [one.task for one in line[:length]]
        places = [plan.places.get(task) for task in tasks]
        assert places == [earlier.places.get(task) for task in tasks]
