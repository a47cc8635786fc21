"""The models of the comparison as Compass's recipes, found by the entry points of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.serving import inputs
from registry.errors import BadItem
from registry.recipes import Params, Recipe

Encoded = tuple[np.ndarray, ...]

ENTRY_POINTS = (
    "[compass.recipes]\n"
    "bench_tiny = bench.serving.recipes:TINY\n"
    "bench_dta = bench.serving.recipes:DTA\n"
)


class Light:
    """Reads items and answers, without a network and without torch."""

    name, nbytes, uses_torch = "", 0, False

    def encode(self, item: Any) -> Encoded:
        try:
            return inputs.encode(self.name, item)
        except (ValueError, TypeError, KeyError) as error:
            raise BadItem(str(error)) from None

    def encode_all(self, items: Any) -> list[Encoded]:
        return inputs.encode_all(self.name, items)

    def tensors(self, encoded: list[Encoded]) -> Any:
        return inputs.arrays(encoded)

    def answers(self, encoded: Any, outputs: Any) -> list[dict[str, Any]]:
        return [{"y": value} for value in outputs[0].squeeze(1).tolist()]


class Predictor(Light):
    """A module of the comparison, on any engine."""

    uses_torch = True

    def __init__(self, directory: Path) -> None:
        from bench.serving import models

        self.stack = models.stack
        self.network = models.make(self.name, directory / "model.safetensors")
        self.nbytes = sum(one.nbytes for one in self.network.state_dict().values())

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Predictor:
        return cls(directory)

    @classmethod
    def without_torch(cls, directory: Path) -> Light:
        light = Light()
        light.name = cls.name
        return light

    def tensors(self, encoded: list[Encoded]) -> Any:
        return self.stack(encoded)

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
