"""How good predictions are on rows that were not learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
SMALLEST = 1e-15  # probability, so that the log loss stays finite


def classification_metrics(
    probabilities: Floats, y: NDArray[np.int64]
) -> dict[str, float]:
    """Accuracy, log loss, and where it is defined, AUC, of probabilities [rows, classes]."""
    found = {
        "accuracy": float((probabilities.argmax(1) == y).mean()),
        "log_loss": log_loss(probabilities, y),
    }
    area = auc(probabilities, y)
    return found if area is None else {**found, "auc": area}


def regression_metrics(values: Floats, y: Floats) -> dict[str, float]:
    """RMSE and MAE, and where y varies, R2."""
    error = np.asarray(values, np.float64) - y
    found = {
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
    }
    total = float(((y - y.mean()) ** 2).sum())
    if total > 0:
        found["r2"] = 1 - float((error**2).sum()) / total
    return found


def log_loss(probabilities: Floats, y: NDArray[np.int64]) -> float:
    """The mean of -ln p of the true class."""
    true = np.asarray(probabilities, np.float64)[np.arange(len(y)), y]
    return float(-np.log(np.clip(true, SMALLEST, 1)).mean())


def auc(probabilities: Floats, y: NDArray[np.int64]) -> float | None:
    """Area under the ROC curve; with more than two classes the mean of one against the rest.

    Classes without a row, or with all of them, are left out; None if no class is left.
    """
    classes = probabilities.shape[1]
    areas = [
        _area(probabilities[:, one], y == one)
        for one in ([1] if classes == 2 else range(classes))
        if 0 < int((y == one).sum()) < len(y)
    ]
    return float(np.mean(areas)) if areas else None


def _area(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The Mann-Whitney statistic, ties counted half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    hits = int(positive.sum())
    rest = len(positive) - hits
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * rest))
