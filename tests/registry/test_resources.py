from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.resources import GIB, Resources

some = st.builds(
    Resources, st.integers(0, 8), st.integers(0, 4), st.integers(0, 64 * GIB)
)


@pytest.mark.parametrize(
    ("needs", "fits"),
    [
        (Resources(4, 1, 8), True),
        (Resources(0, 0, 0), True),
        (Resources(5, 1, 8), False),
        (Resources(4, 2, 8), False),
        (Resources(4, 1, 9), False),
    ],
)
def test_it_fits_only_if_every_part_does(needs: Resources, fits: bool) -> None:
    assert needs.fits(Resources(4, 1, 8)) is fits


def test_nothing_fits_what_is_overdrawn() -> None:
    free = Resources(1, 0, 1).minus(Resources(2, 0, 0))
    assert free == Resources(-1, 0, 1)
    assert not Resources(0, 0, 0).fits(free)


@given(some, some)
def test_taking_is_possible_exactly_when_nothing_gets_negative(
    needs: Resources, free: Resources
) -> None:
    left = free.minus(needs)
    assert needs.fits(free) == (min(left.cpus, left.gpus, left.memory) >= 0)


@given(some, some, some)
def test_the_order_of_taking_does_not_matter(
    free: Resources, one: Resources, two: Resources
) -> None:
    assert free.minus(one).minus(two) == free.minus(two).minus(one)


def test_resources_are_values() -> None:
    with pytest.raises(FrozenInstanceError):
        Resources(1, 0, 0).cpus = 2  # type: ignore[misc]
    told = {"cpus": 1, "gpus": 2, "memory": 3, "gpu_memory": 4}
    assert Resources(1, 2, 3, 4).as_dict() == told
