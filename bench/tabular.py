"""The recipe `tabular` beside scikit-learn's defaults, on four sets and several seeds.

python -m bench.tabular [--seeds 5] [--mode prototyping] [--sets wine,digits]
Accuracy or R2 on the same held-out fifth, averaged over seeds; exit status 1 if the recipe is more
than 1 % behind the better of HistGradientBoosting and MLP (scaled or not).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from registry import recipes
from training.context import Context

SETS = ("breast_cancer", "wine", "diabetes", "digits")
PEERS = ("boosting", "mlp", "scaled mlp")
MARGIN = 0.01

Arrays = tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--mode", default="prototyping")
    options.add_argument("--sets", default=",".join(SETS))
    chosen = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = ("compass", "linear", *PEERS, "seconds")
    print(f"{'set':14}" + "".join(f"{one:>12}" for one in names))
    behind = []
    for name in chosen.sets.split(","):
        rows = [_one(name, seed, chosen.mode) for seed in range(chosen.seeds)]
        mean = {one: float(np.mean([row[one] for row in rows])) for one in names}
        print(f"{name:14}" + "".join(f"{mean[one]:12.4f}" for one in names), flush=True)
        best = max(mean[one] for one in PEERS)
        if mean["compass"] < best - MARGIN * abs(best):
            behind.append(name)
    print("behind: " + ", ".join(behind) if behind else "no set more than 1 % behind")
    return 1 if behind else 0


def _one(name: str, seed: int, mode: str) -> dict[str, float]:
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    is_regression = name == "diabetes"
    train, test = train_test_split(
        np.arange(len(y)),
        test_size=0.2,
        random_state=seed,
        stratify=None if is_regression else y,
    )
    found = _compass((x, y), test, seed, mode)
    boosting = (
        HistGradientBoostingRegressor
        if is_regression
        else (HistGradientBoostingClassifier)
    )
    mlp = MLPRegressor if is_regression else MLPClassifier
    peers = {
        "boosting": boosting(random_state=seed),
        "mlp": mlp(random_state=seed),
        "scaled mlp": make_pipeline(StandardScaler(), mlp(random_state=seed)),
    }
    for peer, model in peers.items():
        found[peer] = float(model.fit(x[train], y[train]).score(x[test], y[test]))
    return found


def _compass(
    data: Arrays, test: np.ndarray[Any, Any], seed: int, mode: str
) -> dict[str, float]:
    recipe = recipes.get("tabular")
    params = recipe.validate({"mode": mode, "seed": seed, "fold_column": "fold"})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_csv(place / "data.csv", data, test)
        context = Context(place / "checkpoints", place / "output", place / "scratch")
        started = time.monotonic()
        recipes.load(recipe.fit)(params, place / "data.csv", context)
        took = time.monotonic() - started
        metrics = json.loads((place / "output" / "metrics.json").read_text())
    score = "r2" if "r2" in metrics else "accuracy"
    linear = metrics["baselines"]["linear"][score]
    return {"compass": metrics[score], "linear": linear, "seconds": took}


def write_csv(path: Path, data: Arrays, test: np.ndarray[Any, Any]) -> None:
    """Write x and y as a CSV file whose column `fold` says train or test."""
    x, y = data
    held = np.isin(np.arange(len(y)), test)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{i}" for i in range(x.shape[1])), "fold", "target"])
        for row, value, is_test in zip(x.tolist(), y.tolist(), held, strict=True):
            writer.writerow([*row, "test" if is_test else "train", value])


if __name__ == "__main__":
    sys.exit(main())
