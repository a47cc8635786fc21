"""Small CSV files for the tests of the recipe `tabular`, and one call that trains on them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from registry import recipes
from training.context import Context
from training.recipes.tabular.fit import fit

# Two threads that wait for each other on a busy machine are slower than one.
torch.set_num_threads(1)

QUICK = {"mode": "smoke_test", "hidden": [8], "epochs": 3}


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(header), *(list(row) for row in rows)])
    return path


def mixed_rows(count: int = 60, *, gaps: bool = True) -> list[list[Any]]:
    """Numbers (some missing), a colour, a truth value, and a class that depends on them."""
    random = np.random.default_rng(0)
    rows: list[list[Any]] = []
    for number in range(count):
        size, colour = random.normal(), ["red", "green", "blue"][number % 3]
        sold = bool(random.random() < 0.5)
        label = "big" if size + (colour == "red") > 0.3 else "small"
        shown = "NA" if gaps and number % 10 == 7 else round(float(size), 4)
        rows.append([shown, colour, sold, label])
    return rows


MIXED = ["size", "colour", "sold", "label"]


@dataclass
class Trained:
    """What a training left behind."""

    directory: Path
    events: list[Mapping[str, Any]] = field(default_factory=list)

    def read(self, name: str) -> Any:
        return json.loads((self.directory / name).read_text())

    @property
    def metrics(self) -> Any:
        return self.read("metrics.json")

    @property
    def notes(self) -> list[str]:
        return [one["text"] for one in self.events if one["event"] == "note"]

    def files(self) -> dict[str, bytes]:
        return {one.name: one.read_bytes() for one in sorted(self.directory.iterdir())}


def train(
    csv_file: Path, folder: Path, params: Mapping[str, Any] = QUICK, **context: Any
) -> Trained:
    """Train into `folder`; the checkpoints stay beside the output."""
    made = Trained(folder / "output")
    fit(
        recipes.get("tabular").validate(params),  # type: ignore[arg-type]
        csv_file,
        Context(
            folder / "checkpoints",
            folder / "output",
            folder / "scratch",
            **{"report": made.events.append, **context},
        ),
    )
    return made
