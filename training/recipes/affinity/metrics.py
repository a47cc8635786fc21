"""Figures of merit of predicted affinities."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def evaluate(true: Vector, predicted: Vector) -> dict[str, float]:
    """All figures by name; those that these numbers do not define are left out."""
    error = predicted - true
    mse = float(np.mean(error**2))
    figures = {
        "mse": mse,
        "rmse": math.sqrt(mse),
        "mae": float(np.mean(np.abs(error))),
        "ci": concordance(true, predicted),
        "rm2": rm2(true, predicted),
        "pearson": pearson(true, predicted),
        "spearman": pearson(ranks(true), ranks(predicted)),
    }
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def concordance(true: Vector, predicted: Vector) -> float:
    """Harrell's concordance index: of all pairs with unlike true values, the share in right order.

    A tie of the predictions counts one half (Gonen and Heller, Biometrika 92 (2005) 965). Exact,
    O(n log n); NaN if all true values are equal.
    """
    order = np.lexsort((-predicted, true))
    level = np.unique(predicted, return_inverse=True)[1][order]
    unlike = _pairs(np.array([len(true)])) - _pairs(_runs(true))
    both = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)[1]
    tied = _pairs(_runs(predicted)) - _pairs(both)
    return (_rising(level) + tied / 2) / unlike if unlike else math.nan


def _rising(level: NDArray[np.int64]) -> int:
    """How many pairs of places have the smaller number first.

    By the highest bit in which two numbers differ: at each bit the numbers stand grouped by the
    bits above it, each group in the original order.
    """
    total = 0
    for bit in reversed(range(int(level.max(initial=0)).bit_length())):
        ones = (level >> bit) & 1
        starts = np.flatnonzero(np.diff(level >> (bit + 1), prepend=-1))
        zeros_before = np.cumsum(1 - ones) - (1 - ones)
        sizes = np.diff(np.append(starts, len(level)))
        inside = zeros_before - np.repeat(zeros_before[starts], sizes)
        total += int(inside[ones == 1].sum())
        zeros = np.add.reduceat(1 - ones, starts)
        first = np.repeat(starts, sizes)
        rank = np.arange(len(level)) - first
        place = first + np.where(ones, np.repeat(zeros, sizes) + rank - inside, inside)
        moved = np.empty_like(level)
        moved[place] = level
        level = moved
    return total


def rm2(true: Vector, predicted: Vector) -> float:
    """The index r_m^2 as DeepDTA and its followers compute it (Roy et al., Mol. Inf. 28 (2009))."""
    r2 = pearson(true, predicted) ** 2
    square = float(predicted @ predicted)
    spread = float(np.sum((true - true.mean()) ** 2))
    if not (square and spread):
        return math.nan
    through_zero = float(true @ predicted) / square
    r02 = 1 - float(np.sum((true - through_zero * predicted) ** 2)) / spread
    return r2 * (1 - math.sqrt(abs(r2 * r2 - r02 * r02)))


def pearson(a: Vector, b: Vector) -> float:
    """Pearson's correlation, NaN if one of both is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 0 else math.nan


def ranks(values: Vector) -> Vector:
    """Ranks from 1, equal values sharing the mean of theirs."""
    inverse, sizes = np.unique(values, return_inverse=True, return_counts=True)[1:]
    ends = np.cumsum(sizes)
    means: Vector = ends - (sizes - 1) / 2
    return means[inverse]


def _runs(values: Vector) -> NDArray[np.int64]:
    return np.unique(values, return_counts=True)[1]


def _pairs(sizes: NDArray[np.int64]) -> int:
    return int(np.sum(sizes * (sizes - 1) // 2))
