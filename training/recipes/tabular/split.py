"""Which rows are held out, and which training rows each member does not see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from registry.errors import BadData
from training.recipes.tabular.target import Target

TEST = "test"

Mask = NDArray[np.bool_]


def named_test(texts: list[str], column: str) -> Mask:
    """The rows whose fold is `test`. Raises BadData if all or none are."""
    test = np.array([text.lower() == TEST for text in texts])
    if test.all() or not test.any():
        which = "all rows are" if test.all() else "no row is"
        raise BadData(
            f"{which} of the fold {TEST!r}; some must be held out and some learned from",
            column=column,
        )
    return test


def random_test(
    y: NDArray[np.float64], target: Target, fraction: float, seed: int
) -> Mask:
    """A random share of the rows, of each class the same; two of a class stay outside."""
    random = np.random.default_rng([seed, 1])
    test = np.zeros(len(y), dtype=np.bool_)
    if fraction == 0:
        return test
    groups = y if target.labels else np.zeros(len(y))
    for group in np.unique(groups):
        rows = random.permutation(np.flatnonzero(groups == group))
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 2)
        test[rows[:count]] = True
    return test


def check_classes(
    y: NDArray[np.float64], test: Mask, target: Target, column: str
) -> None:
    """Raise BadData if a class has fewer than two training rows."""
    for number, label in enumerate(target.labels):
        if int(((y == number) & ~test).sum()) < 2:
            raise BadData(
                f"class {label!r} has fewer than two rows outside the fold {TEST!r}",
                column=column,
            )


def assign_folds(
    y: NDArray[np.float64], target: Target, folds: int, seed: int
) -> NDArray[np.int64]:
    """A fold (0 to `folds` - 1) for each row, of nearly equal size, and within each class."""
    random = np.random.default_rng([seed, 2])
    ties = random.random(len(y))
    order = np.lexsort((ties, y)) if target.labels else np.argsort(ties)
    assigned = np.empty(len(y), dtype=np.int64)
    assigned[order] = np.arange(len(y)) % folds
    return assigned
