"""A recipe that is served without torch: reads rows of numbers, and ONNX Runtime does the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from registry.recipes import Params, Recipe

RECIPE = Recipe(
    name="light", summary="Light.", params=Params, presets={}, inputs={}, outputs={},
    check="", fit="", predictor="tests.inference.light:Predictor",
)  # fmt: skip


class Light:
    nbytes, uses_torch = 0, False

    def encode(self, item: Any) -> Any:
        return np.array(item["x"], np.float32)

    def tensors(self, encoded: list[Any]) -> tuple[Any, ...]:
        return (np.stack(encoded),)

    def answers(self, encoded: Any, outputs: tuple[Any, ...]) -> list[dict[str, Any]]:
        return [{"y": row} for row in outputs[0].tolist()]


class Predictor(Light):
    uses_torch = True

    @classmethod
    def load(cls, directory: Path, device: str) -> Predictor:
        import torch

        assert torch.tensor([1.0]).sum() == 1
        return cls()

    @classmethod
    def without_torch(cls, directory: Path) -> Light:
        return Light()

    def predict(self, encoded: list[Any]) -> list[dict[str, Any]]:
        return [{"y": "by torch"} for _ in encoded]
