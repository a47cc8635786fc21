"""The first in line keeps a start, and others may pass it only without any delay to it."""

from __future__ import annotations

from registry.placement import Kept
from registry.placement.promise import PATIENCE, TRUST
from registry.resources import GIB
from tests.registry.placement.lines import demand, holding, nodes, offer, plan


def test_a_short_one_passes_and_a_long_one_waits() -> None:
    held = [holding(9, 6, until=600.0)]
    line = [demand(1, 8), demand(2, 1, limit=601), demand(3, 1, limit=600)]
    made = plan(line, [offer(holdings=held)])
    assert nodes(made) == {3: "cpu@a"}
    assert made.kept == {"cpu": Kept(1, "cpu@a", 600.0)}
    assert made.starts[1] == 600.0
    assert made.waits[2] == [
        "Would delay task 1, which is first in line for cpu@a at about 09:10 UTC."
    ]


def test_one_without_a_limit_may_pass_by_what_it_usually_takes() -> None:
    held = [holding(9, 6, until=600.0)]
    line = [demand(1, 8), demand(2, 1, usual=599), demand(3, 1)]
    assert nodes(plan(line, [offer(holdings=held)])) == {2: "cpu@a"}


def test_after_ten_minutes_what_is_usual_is_believed_no_more() -> None:
    held = [holding(9, 6, until=600.0)]
    line = [
        demand(1, 8, waited=TRUST),
        demand(2, 1, usual=599),
        demand(3, 1, limit=599),
    ]
    assert nodes(plan(line, [offer(holdings=held)])) == {3: "cpu@a"}


def test_what_fits_beside_the_first_at_its_start_passes_however_long() -> None:
    held = [holding(9, 6, until=600.0)]
    line = [demand(1, 7), demand(2, 1), demand(3, 1)]
    assert nodes(plan(line, [offer(holdings=held)])) == {2: "cpu@a"}


def test_what_will_still_run_at_its_start_is_not_beside_it_twice() -> None:
    held = [holding(8, 5, until=600.0), holding(9, 1)]
    line = [demand(1, 7), demand(2, 1)]
    assert nodes(plan(line, [offer(holdings=held)])) == {}


def test_others_take_another_node_first() -> None:
    held = [holding(9, 7, until=600.0)]
    line = [demand(1, 8), demand(2, 1, limit=60), demand(3, 1)]
    offers = [offer("cpu@a", holdings=held), offer("cpu@b", 2)]
    assert nodes(plan(line, offers)) == {2: "cpu@b", 3: "cpu@b"}


def test_the_kept_start_is_the_earliest_of_all_nodes() -> None:
    offers = [
        offer(
            "cpu@a", holdings=[holding(7, 1, until=900.0), holding(8, 1, until=60.0)]
        ),
        offer("cpu@b", holdings=[holding(9, 8, until=300.0)]),
        offer("cpu@c", 4, holdings=[holding(10, 4, until=5.0)]),
    ]
    made = plan([demand(1, 8)], offers)
    assert made.kept["cpu"] == Kept(1, "cpu@b", 300.0)


def test_one_larger_than_any_node_holds_nothing_up() -> None:
    made = plan([demand(1, 9, waited=9e9), demand(2, 8)], [offer()])
    assert nodes(made) == {2: "cpu@a"}
    assert made.kept == {}
    assert made.waits[1] == [
        "Needs 9 CPUs; the largest cpu worker for it, cpu@a, has 8."
    ]


def test_each_lane_has_its_own_first() -> None:
    offers = [
        offer("cpu@a", holdings=[holding(8, 8, until=60.0)]),
        offer("inference@a", holdings=[holding(9, 8, until=90.0)]),
    ]
    made = plan([demand(1, 8), demand(2, 8, lane="inference")], offers)
    assert {lane: kept.task for lane, kept in made.kept.items()} == {
        "cpu": 1,
        "inference": 2,
    }


# Where no end is known


def test_for_half_a_minute_a_small_one_passes_a_big_one() -> None:
    held = [holding(9, 6)]
    line = [demand(1, 8, waited=PATIENCE - 1), demand(2, 1)]
    made = plan(line, [offer(holdings=held)])
    assert nodes(made) == {2: "cpu@a"}
    assert 1 not in made.starts


def test_after_that_the_node_is_kept() -> None:
    held = [holding(9, 6)]
    line = [demand(1, 8, waited=PATIENCE), demand(2, 1), demand(3, 1, limit=5)]
    made = plan(line, [offer(holdings=held)])
    assert nodes(made) == {}
    assert made.kept["cpu"] == Kept(1, "cpu@a", None)
    assert made.waits[2] == ["Would delay task 1, which is first in line for cpu@a."]


def test_the_kept_node_is_the_one_where_the_fewest_must_end() -> None:
    offers = [
        offer("cpu@a", holdings=[holding(7, 4), holding(8, 4)]),
        offer("cpu@b", holdings=[holding(9, 7)]),
    ]
    line = [demand(1, 8, waited=PATIENCE), demand(2, 1)]
    made = plan(line, offers)
    assert made.kept["cpu"].node == "cpu@b"
    assert nodes(made) == {}


def test_beside_one_that_waits_for_unknown_ends_only_what_leaves_it_room() -> None:
    """Once task 9 is gone, 8 CPUs less 6 are 2; memory is not what it waits for."""
    held = [holding(9, 4)]
    line = [demand(1, 6, waited=PATIENCE), demand(2, 1), demand(3, 2), demand(4, 1)]
    made = plan(line, [offer(holdings=held)])
    assert nodes(made) == {2: "cpu@a", 4: "cpu@a"}
    later = [*held, holding(2, 1), holding(4, 1)]
    line = [line[0], demand(3, 2), demand(5, 1, memory=GIB)]
    assert nodes(plan(line, [offer(holdings=later)])) == {}


def test_a_guess_that_proved_wrong_is_no_known_end() -> None:
    held = [holding(9, 6, about=-1.0)]
    made = plan([demand(1, 8), demand(2, 1, limit=1)], [offer(holdings=held)])
    assert nodes(made) == {2: "cpu@a"}
    kept = plan([demand(1, 8, waited=PATIENCE)], [offer(holdings=held)]).kept
    assert kept["cpu"].starts is None


def test_a_limit_that_is_over_ends_soon() -> None:
    held = [holding(9, 6, until=-1.0)]
    made = plan([demand(1, 8), demand(2, 1, limit=60)], [offer(holdings=held)])
    assert nodes(made) == {}
    assert made.kept["cpu"].starts == 5.0


def test_a_younger_first_in_line_does_not_undo_what_is_kept_for_an_older() -> None:
    held = [holding(9, 6)]
    line = [
        demand(1, 8, waited=PATIENCE, owner=1),
        demand(2, 7, waited=0.0, priority=1),
        demand(3, 1),
    ]
    made = plan(line, [offer(holdings=held)])
    assert made.kept["cpu"].task == 1
    assert nodes(made) == {}


def test_the_example_of_the_documentation() -> None:
    first, short, long = demand(50, 8), demand(51, 2, limit=1200), demand(52)
    made = plan(
        [first, short, long], [offer(holdings=[holding(41, 6, until=28 * 60.0)])]
    )
    assert nodes(made) == {51: "cpu@a"}
    assert made.kept["cpu"].starts == 28 * 60.0
    assert made.waits[52] == [
        "Needs 1 CPU; cpu@a has 0 free until task 51 ends, about 09:20 UTC.",
        "Task 50 goes first.",
    ]
    made = plan([first, long], [offer(holdings=[holding(51, 2, until=120.0)])])
    assert made.places == {}
    assert made.waits[52] == [
        "Would delay task 50, which is first in line for cpu@a at about 09:02 UTC."
    ]
    assert nodes(plan([first, long], [offer()])) == {50: "cpu@a"}
