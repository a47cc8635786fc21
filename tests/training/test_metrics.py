from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from training.recipes.affinity.metrics import concordance, evaluate, pearson, ranks, rm2


def by_counting(true: np.ndarray, predicted: np.ndarray) -> float:
    """Harrell's index pair by pair."""
    good = total = 0.0
    for a, b in itertools.combinations(range(len(true)), 2):
        if true[a] != true[b]:
            total += 1
            difference = (true[a] - true[b]) * (predicted[a] - predicted[b])
            good += 1.0 if difference > 0 else 0.5 if difference == 0 else 0.0
    return good / total


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("guesses", [1, 2, 7, 1000])
@pytest.mark.parametrize("size", [2, 3, 17, 80])
def test_concordance_is_that_of_all_pairs(levels: int, guesses: int, size: int) -> None:
    rng = np.random.default_rng([levels, guesses, size])
    true = rng.integers(levels, size=size).astype(float)
    true[:2] = 0, 1
    predicted = rng.integers(guesses, size=size) / 3
    assert concordance(true, predicted) == by_counting(true, predicted)


def test_concordance_of_perfect_opposite_and_constant_predictions() -> None:
    true = np.array([1.0, 2.0, 2.0, 3.0])
    assert concordance(true, true) == 1
    assert concordance(true, -true) == 0
    assert concordance(true, np.zeros(4)) == 0.5


def test_concordance_of_equal_values_is_not_defined() -> None:
    assert math.isnan(concordance(np.ones(3), np.arange(3.0)))


def test_concordance_of_many_values_takes_no_square_time() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=200_000)
    began = time.process_time()
    value = concordance(true, true + rng.normal(size=true.size))
    assert time.process_time() - began < 5
    # For a normal pair with correlation r it is 1/2 + arcsin(r) / pi.
    assert value == pytest.approx(0.75, abs=0.003)


def test_figures_of_a_small_case() -> None:
    figures = evaluate(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 4.0, 3.0]))
    assert figures["mse"] == 0.5
    assert figures["rmse"] == pytest.approx(0.5**0.5)
    assert figures["mae"] == 0.5
    assert figures["ci"] == pytest.approx(5 / 6)
    assert figures["pearson"] == figures["spearman"] == pytest.approx(0.8)


def test_rm2_of_perfect_predictions_is_one_and_of_shifted_ones_less() -> None:
    true = np.array([5.0, 6.0, 7.0, 9.0])
    assert rm2(true, true) == pytest.approx(1)
    # r^2 = 1; through zero k = 4.9975, so r0^2 = 1 - sum (t - k p)^2 / sum (t - mean)^2.
    shifted = true + 2
    k = (true @ shifted) / (shifted @ shifted)
    r02 = 1 - ((true - k * shifted) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    assert rm2(true, shifted) == pytest.approx(1 - math.sqrt(1 - r02**2))
    assert rm2(true, shifted) < 1


def test_figures_that_are_not_defined_are_left_out() -> None:
    figures = evaluate(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    assert set(figures) == {"mse", "rmse", "mae", "ci"}


def test_ranks_share_the_mean_among_equals() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1, 3.5, 2]


def test_pearson_does_not_mind_scale_and_offset() -> None:
    x = np.random.default_rng(1).normal(size=50)
    assert pearson(x, 3 * x + 7) == pytest.approx(1)
    assert pearson(x, -x) == pytest.approx(-1)
