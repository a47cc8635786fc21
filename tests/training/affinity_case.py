"""A small piece of the shipped data, and one way to train on it."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from training.context import Context
from training.data import BUILT_IN
from training.recipes.affinity.fit import fit
from training.recipes.affinity.recipe import RECIPE

torch.set_num_threads(1)
QUICK = {
    "mode": "smoke_test",
    "epochs": 4,
    "hidden": 32,
    "width": 16,
    "head": 16,
    "batch_size": 64,
}


def rows(count: int = 320, longest: int = 420) -> list[dict[str, str]]:
    """Rows of the shipped data with short sequences, so that alignment takes no time."""
    path = BUILT_IN["bindingdb_sample"].path
    with gzip.open(path) as raw, io.TextIOWrapper(raw, encoding="utf-8") as text:
        found = [one for one in csv.DictReader(text) if len(one["sequence"]) <= longest]
    return found[:count]


def write(path: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


@dataclass
class Training:
    """What one training left: its directory, what it told, and its looks at the wish to stop."""

    home: Path
    looks: int = 0
    events: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.home / "output"

    @property
    def notes(self) -> list[str]:
        return [e["text"] for e in self.events if e["event"] == "note"]

    @property
    def metrics(self) -> list[tuple[int, dict[str, float]]]:
        return [(e["step"], e["values"]) for e in self.events if e["event"] == "metric"]

    @property
    def fractions(self) -> list[float]:
        return [e["fraction"] for e in self.events if e["event"] == "progress"]


def train(
    home: Path,
    dataset: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    **params: Any,
) -> Training:
    training = Training(home)

    def look() -> bool:
        training.looks += 1
        return should_stop()

    context = Context(
        home / "checkpoints",
        home / "output",
        home / "scratch",
        report=training.events.append,
        should_stop=look,
    )
    fit(RECIPE.validate({**QUICK, **params}), dataset, context)
    return training
