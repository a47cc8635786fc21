"""The judgement on test rows: of the baselines, then of the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.context import Context
from training.recipes.affinity.metrics import Vector, evaluate, pearson, ranks
from training.recipes.affinity.pairs import Cells
from training.recipes.affinity.scale import Scale


class Judge:
    """Compares with the test rows, and publishes what comes out."""

    def __init__(self, test: Cells, scale: Scale, context: Context) -> None:
        self.test, self.scale, self.context = test, scale, context
        self.baselines: dict[str, dict[str, float]] = {}

    def publish(self, name: str, values: Vector) -> None:
        """Note a baseline's figures, and show the chief ones at step 0."""
        figures = evaluate(self.test.affinity, self.scale.above_floor(values))
        self.baselines[name] = figures
        chief = {f"{name}_{k}": figures[k] for k in ("mse", "ci") if k in figures}
        self.context.metric(0, **chief)

    def conclude(
        self, values: Vector, spread: Vector, network: Vector
    ) -> dict[str, Any]:
        """The model's figures at the top, those of its parts and of the baselines below."""
        true = self.test.affinity
        figures: dict[str, Any] = evaluate(true, values)
        self.context.metric(0, **{f"test_{k}": v for k, v in figures.items()})
        figures["baselines"] = self.baselines
        figures["network"] = evaluate(true, self.scale.above_floor(network))
        trust = pearson(ranks(spread), ranks(np.abs(values - true)))
        if np.isfinite(trust):
            figures["uncertainty_spearman"] = trust
        return figures
