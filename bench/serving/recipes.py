"""The models of the comparison as Compass's recipes, found by the entry points of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from registry.errors import BadItem
from registry.recipes import Params, Recipe

ENTRY_POINTS = (
    "[compass.recipes]\n"
    "bench_tiny = bench.serving.recipes:TINY\n"
    "bench_dta = bench.serving.recipes:DTA\n"
)


class Predictor:
    """A module of the comparison, on any engine."""

    name = ""

    def __init__(self, directory: Path) -> None:
        from bench.serving import models

        self.models = models
        self.network = models.make(self.name, directory / "model.safetensors")
        self.nbytes = sum(one.nbytes for one in self.network.state_dict().values())

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Predictor:
        return cls(directory)

    def encode(self, item: Any) -> tuple[np.ndarray, ...]:
        try:
            return self.models.encode(self.name, item)
        except (ValueError, TypeError, KeyError) as error:
            raise BadItem(str(error)) from None

    def encode_all(self, items: Any) -> list[tuple[np.ndarray, ...]]:
        return self.models.encode_all(self.name, items)

    def tensors(self, encoded: list[tuple[np.ndarray, ...]]) -> Any:
        return self.models.stack(encoded)

    def answers(self, encoded: Any, outputs: Any) -> list[dict[str, Any]]:
        return [{"y": value} for value in outputs[0].squeeze(1).tolist()]

    def predict(self, encoded: Any) -> list[dict[str, Any]]:
        return self.answers(encoded, (self.network(*self.tensors(encoded)),))


class Tiny(Predictor):
    name = "tiny"


class Dta(Predictor):
    name = "dta"


def _recipe(name: str, predictor: str) -> Recipe:
    anything = {"type": "object"}
    return Recipe(
        name=f"bench_{name}", summary="For the comparison of servers.", params=Params,
        presets={}, inputs=anything, outputs=anything, check="", fit="",
        predictor=f"bench.serving.recipes:{predictor}",
    )  # fmt: skip


TINY, DTA = _recipe("tiny", "Tiny"), _recipe("dta", "Dta")


def announce(folder: Path) -> None:
    """Make the recipes known to every process that has the folder in its PYTHONPATH."""
    about = folder / "compass_bench-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: compass-bench\nVersion: 0\n"
    )
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
