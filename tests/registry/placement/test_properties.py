"""What holds for every line, all nodes, and whatever is held, reserved or limited."""

from __future__ import annotations

from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from registry.placement import Booking, Demand, Gpu, Holding, Limit, Offer, Plan
from registry.resources import GIB, Resources
from tests.registry.placement.lines import plan

NEEDS = st.builds(
    Resources,
    st.integers(0, 6),
    st.integers(0, 3),
    st.integers(0, 4).map(GIB.__mul__),
    st.sampled_from([0, 0, 8 * GIB, 16 * GIB]),
)
TIMES = st.one_of(st.none(), st.sampled_from([10.0, 60.0, 300.0, 3600.0]))
LANES = st.sampled_from(["cpu", "gpu"])


@st.composite
def demands(draw: Any, count: int) -> list[Demand]:
    return [
        Demand(
            task,
            draw(LANES),
            draw(NEEDS),
            draw(st.integers(1, 3)),
            draw(st.integers(-1, 1)),
            draw(st.sampled_from([0.0, 40.0, 700.0])),
            lasts := draw(TIMES),
            lasts is not None and draw(st.booleans()),
        )
        for task in range(1, count + 1)
    ]


@st.composite
def offers(draw: Any) -> list[Offer]:
    made = []
    for number in range(draw(st.integers(0, 3))):
        gpus = [
            Gpu(index, draw(st.sampled_from([8, 16])) * GIB, busy)
            for index in range(draw(st.integers(0, 3)))
            for busy in [draw(st.sampled_from(["", "", "Process 7 uses it."]))]
        ]
        size = Resources(draw(st.integers(1, 8)), len(gpus), 6 * GIB)
        free, spare = size, [gpu.index for gpu in gpus if not gpu.busy]
        held = []
        for task in range(draw(st.integers(0, 3))):
            needs = draw(NEEDS)
            if not needs.fits(free) or needs.gpus > len(spare):
                continue
            free = free.minus(needs)
            taken, spare = tuple(spare[: needs.gpus]), spare[needs.gpus :]
            owner, ends = draw(st.integers(1, 3)), draw(TIMES)
            key = 1000 + 10 * number + task
            held.append(Holding(key, needs, taken, ends, owner, draw(st.booleans())))
        lane = draw(LANES)
        made.append(Offer(f"{lane}@{number}", lane, size, gpus, held))
    return made


BOOKINGS = st.lists(
    st.builds(
        Booking,
        st.sampled_from(["x", "y"]),
        LANES,
        st.sampled_from([None, "cpu@0", "gpu@1"]),
        st.one_of(st.none(), NEEDS),
        st.sampled_from([-60.0, 100.0]),
        st.sampled_from([50.0, 200.0, 4000.0]),
        st.frozensets(st.integers(1, 3), max_size=2),
    ),
    max_size=2,
).map(lambda made: [one for one in made if one.starts < one.ends])
LIMITS = st.dictionaries(
    st.integers(1, 3),
    st.builds(
        Limit,
        st.one_of(st.none(), st.integers(0, 4)),
        st.one_of(st.none(), st.integers(0, 9)),
        st.one_of(st.none(), st.integers(0, 3)),
    ),
    max_size=2,
)
LINES = st.integers(0, 12).flatmap(demands)


def after(line: list[Demand], nodes: list[Offer], made: Plan) -> list[Offer]:
    """The nodes as they are once the plan is carried out."""
    wanted = {one.task: one for one in line}
    result = []
    for node in nodes:
        new = [
            Holding(task, one.needs, place.gpus, one.lasts, one.owner, one.is_limit)
            for task, place in made.places.items()
            if place.node == node.node
            for one in [wanted[task]]
        ]
        result.append(
            Offer(
                node.node, node.lane, node.capacity, node.gpus, [*node.holdings, *new]
            )
        )
    return result


def has_room(node: Offer, needs: Resources) -> bool:
    free, taken = node.capacity, {index for one in node.holdings for index in one.gpus}
    for one in node.holdings:
        free = free.minus(one.needs)
    spare = [
        gpu
        for gpu in node.gpus
        if gpu.index not in taken and not gpu.busy and gpu.memory >= needs.gpu_memory
    ]
    return (
        (needs.cpus == 0 or needs.cpus <= free.cpus)
        and (needs.memory == 0 or needs.memory <= free.memory)
        and needs.gpus <= len(spare)
    )


@settings(deadline=None)
@given(LINES, offers(), BOOKINGS, LIMITS)
def test_no_plan_overcommits_a_node_a_gpu_or_a_user(
    line: list[Demand],
    nodes: list[Offer],
    bookings: list[Booking],
    limits: dict[int, Limit],
) -> None:
    made = plan(line, nodes, bookings=bookings, limits=limits)
    lanes = {node.node: node.lane for node in nodes}
    for one in line:
        if one.task in made.places:
            place = made.places[one.task]
            assert lanes[place.node] == one.lane
            assert len(place.gpus) == one.needs.gpus
    then = after(line, nodes, made)
    for node in then:
        held = [one.needs for one in node.holdings]
        assert sum(needs.cpus for needs in held) <= node.capacity.cpus
        assert sum(needs.memory for needs in held) <= node.capacity.memory
        indexes = [index for one in node.holdings for index in one.gpus]
        assert len(indexes) == len(set(indexes))
        devices = {gpu.index: gpu for gpu in node.gpus}
        for one in node.holdings[-len(made.places) :] if made.places else []:
            for index in one.gpus if one.task < 1000 else ():
                assert not devices[index].busy
                assert devices[index].memory >= one.needs.gpu_memory
    for owner, limit in limits.items():
        new = [one for one in line if one.owner == owner and one.task in made.places]
        if not new:
            continue
        held = [
            one.needs for node in then for one in node.holdings if one.owner == owner
        ]
        assert limit.tasks is None or len(held) <= limit.tasks
        took_cpus = any(one.needs.cpus for one in new)
        assert (
            limit.cpus is None
            or not took_cpus
            or (sum(needs.cpus for needs in held) <= limit.cpus)
        )


@settings(deadline=None)
@given(LINES, offers(), BOOKINGS, LIMITS)
def test_every_task_is_placed_or_told_why_not_and_always_alike(
    line: list[Demand],
    nodes: list[Offer],
    bookings: list[Booking],
    limits: dict[int, Limit],
) -> None:
    made = plan(line, nodes, bookings=bookings, limits=limits)
    assert made.places.keys() | made.waits.keys() == {one.task for one in line}
    assert not made.places.keys() & made.waits.keys()
    for reasons in made.waits.values():
        assert reasons
        assert all(reason.endswith(".") for reason in reasons)
        assert len(set(reasons)) == len(reasons)
    assert all(0 < start < inf for start in made.starts.values())
    assert made.starts.keys() <= made.waits.keys()
    again = plan(line[::-1], nodes[::-1], bookings=bookings, limits=limits)
    assert again == made


@settings(deadline=None)
@given(LINES, offers())
def test_no_node_idles_while_a_task_fits_unless_it_is_kept(
    line: list[Demand], nodes: list[Offer]
) -> None:
    made = plan(line, nodes)
    for node in after(line, nodes, made):
        kept = made.kept.get(node.lane)
        for one in line:
            if one.task in made.waits and one.lane == node.lane:
                is_kept = kept and kept.node == node.node and kept.task != one.task
                assert is_kept or not has_room(node, one.needs)


@settings(deadline=None)
@given(LINES, offers())
def test_a_second_pass_places_nothing_more(
    line: list[Demand], nodes: list[Offer]
) -> None:
    """So whoever waits, waits for an end and not for a pass."""
    made = plan(line, nodes)
    rest = [one for one in line if one.task in made.waits]
    assert plan(rest, after(line, nodes, made)).places == {} or made.kept


@settings(deadline=None)
@given(LINES, offers())
def test_those_that_pass_the_first_do_not_delay_its_start(
    line: list[Demand], nodes: list[Offer]
) -> None:
    """The kept start still holds once all that was placed is there, if limits hold."""
    made = plan(line, nodes)
    then = after(line, nodes, made)
    for lane, kept in made.kept.items():
        first = next(one for one in line if one.task == kept.task)
        if kept.starts is None:
            continue
        later = plan([first._replace(waited=0.0)], then)
        assert later.places == {}
        promised = later.kept[lane].starts
        assert promised is not None
        assert promised <= kept.starts
