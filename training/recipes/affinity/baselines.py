"""What can be said without any model: the figures that a model must beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.recipes.affinity.pairs import Cells

ROUNDS = 20  # of alternating means; they settle after a few
Vector = NDArray[np.float64]


def trivial(
    cells: Cells, ligand: NDArray[np.int64], protein: NDArray[np.int64]
) -> dict[str, Vector]:
    """Predictions for pairs by name: the mean, by protein, by ligand, and both added.

    An entity that the training does not have gets the mean of all.
    """
    mean = float(np.average(cells.affinity, weights=cells.weight))
    rest, size = cells.affinity - mean, max(ligand.max(), cells.ligand.max()) + 1
    width = max(protein.max(), cells.protein.max()) + 1
    by_ligand = _means(cells.ligand, rest, cells.weight, size)
    by_protein = _means(cells.protein, rest, cells.weight, width)
    one, other = by_ligand, np.zeros(width)
    for _ in range(ROUNDS):
        other = _means(cells.protein, rest - one[cells.ligand], cells.weight, width)
        one = _means(cells.ligand, rest - other[cells.protein], cells.weight, size)
    return {
        "mean": np.full(len(ligand), mean),
        "mean_per_protein": mean + by_protein[protein],
        "mean_per_ligand": mean + by_ligand[ligand],
        "additive": mean + one[ligand] + other[protein],
    }


def _means(
    groups: NDArray[np.int64], values: Vector, weights: Vector, size: int
) -> Vector:
    total = np.bincount(groups, values * weights, size)
    means: Vector = total / np.maximum(np.bincount(groups, weights, size), 1e-9)
    return means
