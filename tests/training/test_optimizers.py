from __future__ import annotations

import pytest

from training.optimizers import rate_factor

STEPS = 100


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.99])
def test_the_rate_stays_between_nothing_and_its_highest(
    schedule: str, warmup: float
) -> None:
    factors = [rate_factor(schedule, warmup, step, STEPS) for step in range(STEPS)]
    assert all(0 < one <= 1 for one in factors)


def test_the_rate_rises_in_the_warm_up_and_then_falls() -> None:
    factors = [rate_factor("one_cycle", 0.1, step, STEPS) for step in range(STEPS)]
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[10] == 1
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.001


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    assert {rate_factor("constant", 0.1, step, STEPS) for step in range(10, 100)} == {
        1.0
    }


def test_one_step_is_enough() -> None:
    assert rate_factor("one_cycle", 0.5, 0, 1) == pytest.approx(1 / 25)
    assert rate_factor("cosine", 0.0, 0, 1) == 1
