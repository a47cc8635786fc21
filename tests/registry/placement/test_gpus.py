"""GPUs are given out by index, with the memory that was asked for."""

from __future__ import annotations

from registry.placement import Gpu, Place
from registry.resources import GIB
from tests.registry.placement.lines import demand, holding, offer, plan

SMALL, LARGE = 16 * GIB, 80 * GIB
FOUR = [Gpu(0, LARGE), Gpu(1, SMALL), Gpu(2, SMALL), Gpu(3, LARGE)]


def gpu(task: int, gpus: int = 1, **fields: int) -> object:
    return demand(task, lane="gpu", gpus=gpus, **fields)


def test_no_index_is_given_out_twice() -> None:
    made = plan([gpu(task, 1) for task in range(1, 7)], [offer("gpu@a", gpus=FOUR)])
    given = [where.gpus for where in made.places.values()]
    assert sorted(given) == [(0,), (1,), (2,), (3,)]
    assert made.waits.keys() == {5, 6}


def test_the_smallest_that_will_do_goes_first() -> None:
    made = plan([gpu(1), gpu(2, gpu_memory=40 * GIB)], [offer("gpu@a", gpus=FOUR)])
    assert made.places == {1: Place("gpu@a", (1,)), 2: Place("gpu@a", (0,))}


def test_a_gpu_with_too_little_memory_is_none() -> None:
    made = plan([gpu(1, 3, gpu_memory=40 * GIB)], [offer("gpu@a", gpus=FOUR)])
    assert made.waits[1] == [
        "Needs 3 GPUs with 40.0 GiB; the largest gpu worker for it, gpu@a, has 2."
    ]
    assert not made.kept


def test_a_held_index_is_not_free() -> None:
    held = [holding(9, indexes=(1, 2), until=300.0)]
    made = plan([gpu(1, 2), gpu(2, 1)], [offer("gpu@a", gpus=FOUR, holdings=held)])
    assert made.places == {1: Place("gpu@a", (0, 3))}
    assert made.waits[2] == [
        "Needs 1 GPU; gpu@a has 0 free until task 9 ends, about 09:05 UTC."
    ]


def test_indexes_that_nobody_wrote_down_still_count() -> None:
    made = plan([gpu(1, 3)], [offer("gpu@a", gpus=FOUR, holdings=[holding(9, gpus=2)])])
    assert made.places == {}


def test_a_gpu_in_use_from_outside_is_not_given_out_and_the_reason_says_by_whom() -> (
    None
):
    busy = "GPU 1 is used by process 4711 (mallory, python) outside Compass."
    gpus = [Gpu(0, SMALL), Gpu(1, SMALL, busy)]
    made = plan([gpu(1, 2), gpu(2, 1)], [offer("gpu@a", gpus=gpus)])
    assert made.places == {2: Place("gpu@a", (0,))}
    assert made.waits[1][:2] == [
        "Needs 2 GPUs; gpu@a has 0 free until others end, at a time that is not known.",
        "On gpu@a, GPU 1 is used by process 4711 (mallory, python) outside Compass.",
    ]


def test_a_gpu_that_would_be_too_small_is_no_reason_whoever_uses_it() -> None:
    gpus = [Gpu(0, LARGE), Gpu(1, SMALL, "GPU 1 is used by process 4711.")]
    held = [holding(9, indexes=(0,), until=300.0)]
    made = plan([gpu(1, gpu_memory=LARGE)], [offer("gpu@a", gpus=gpus, holdings=held)])
    assert len(made.waits[1]) == 1


def test_nothing_is_kept_for_one_that_hangs_on_a_gpu_in_use_from_outside() -> None:
    gpus = [Gpu(0, SMALL), Gpu(1, SMALL, "Somebody.")]
    made = plan([gpu(1, 2, waited=999), gpu(2, 1)], [offer("gpu@a", gpus=gpus)])
    assert made.places == {2: Place("gpu@a", (0,))}
    assert made.kept == {}


def test_the_first_in_line_keeps_its_indexes_from_those_beside_it() -> None:
    """It waits for GPU 0; the other large one is its own too, the small ones are free."""
    held = [holding(9, indexes=(0,), until=600.0)]
    made = plan(
        [gpu(1, 2, gpu_memory=LARGE), gpu(2, 1), gpu(3, 1), gpu(4, 1)],
        [offer("gpu@a", gpus=FOUR, holdings=held)],
    )
    assert made.kept["gpu"].gpus == {0, 3}
    assert made.places == {2: Place("gpu@a", (1,)), 3: Place("gpu@a", (2,))}


def test_one_that_ends_in_time_may_use_them_meanwhile() -> None:
    held = [holding(9, indexes=(0,), until=600.0)]
    line = [gpu(1, 2, gpu_memory=LARGE), gpu(2, 1, gpu_memory=LARGE, limit=600)]
    made = plan(line, [offer("gpu@a", gpus=FOUR, holdings=held)])
    assert made.places == {2: Place("gpu@a", (3,))}
