"""Where the piecewise-linear bins of number columns begin and end."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ROWS_PER_BIN = 20


def bin_edges(
    numbers: NDArray[np.float32], most: int
) -> list[tuple[int, float, float]]:
    """Bins between quantiles of each number column: its place, low edge and high edge.

    A column has at most `most` bins, and about 20 rows in each; none with two values only.
    """
    found: list[tuple[int, float, float]] = []
    count = min(most, max(len(numbers) // ROWS_PER_BIN, 2))
    for place, column in enumerate(numbers.T if most else ()):
        filled = column[~np.isnan(column)]
        if len(np.unique(filled)) < 3:
            continue
        quantiles = np.quantile(filled.astype(np.float64), np.linspace(0, 1, count + 1))
        edges = np.unique(quantiles.astype(np.float32)).tolist()
        found += [(place, *pair) for pair in pairwise(edges)]
    return found
