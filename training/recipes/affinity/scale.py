"""From what the networks compute to affinities, and the floor below which nothing is measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.recipes.affinity.pairs import Cells

FLOOR_SHARE = 0.05  # of the training pairs at exactly the lowest value make it a floor
BELOW_FLOOR = 0.01  # slope of the answer below the floor; keeps the order
KNOWN, UNSEEN = 0.65, 0.5  # weight of the networks for seen pairs, and for others
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of the training pairs; `floor` is their censored lowest value, if any."""

    mean: float
    deviation: float
    floor: float | None

    def standard(self, affinity: Vector) -> Vector:
        """Affinities in standard units."""
        return (affinity - self.mean) / self.deviation

    def affinity(self, standard: Any) -> Vector:
        """Back from standard units, of an array or a tensor."""
        values: Vector = np.asarray(standard, np.float64) * self.deviation + self.mean
        return values

    def above_floor(self, affinity: Vector) -> Vector:
        """Nearly the floor for all that lies below it."""
        if self.floor is None:
            return affinity
        below = self.floor + BELOW_FLOOR * (affinity - self.floor)
        return np.where(affinity < self.floor, below, affinity)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Blend:
    """Weight of the networks against the kernel model: for pairs of seen entities, and others."""

    known: float = KNOWN
    unseen: float = UNSEEN

    def weigh(self, is_known: NDArray[np.bool_]) -> Vector:
        return np.where(is_known, self.known, self.unseen)


def find_scale(cells: Cells, floor: str) -> Scale:
    """The scale of the training pairs; with `floor` "auto", their floor if they have one.

    A lowest value that many pairs share is no measurement but says "not seen": in Davis, 10 uM.
    """
    mean = float(np.average(cells.affinity, weights=cells.weight))
    variance = float(np.average((cells.affinity - mean) ** 2, weights=cells.weight))
    lowest = float(cells.affinity.min())
    share = float(np.average(cells.affinity == lowest, weights=cells.weight))
    has_floor = floor == "auto" and share >= FLOOR_SHARE and variance > 0
    return Scale(mean, max(variance, 1e-12) ** 0.5, lowest if has_floor else None)


def combine(
    members: Vector, kernel: Vector, weight: Vector, scale: Scale
) -> tuple[Vector, Vector]:
    """Affinity and spread of n pairs from values [members, n] and those of the kernel model."""
    mixed = weight * members.mean(0) + (1 - weight) * kernel
    return scale.above_floor(mixed), scale.above_floor(members).std(0)


def best_weight(network: Vector, kernel: Vector, excess: float = 0.0) -> float:
    """The weight of the network with the smallest squared error, from the errors of both.

    `excess` is how much larger the network's mean squared error is than that of the ensemble which
    will take its place.
    """
    own = float(np.mean(kernel**2))
    common = float(np.mean(network * kernel))
    theirs = float(np.mean(network**2)) - excess
    curvature = theirs + own - 2 * common
    if curvature <= 0:
        return float(theirs < own)
    return min(max((own - common) / curvature, 0.0), 1.0)
