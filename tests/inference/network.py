"""A recipe whose predictor lets its network run on any engine: a small perceptron."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from registry.errors import BadItem
from registry.recipes import Params, Recipe

WIDTH = 6
_X = {"type": "object", "properties": {"x": {"type": "array"}}, "required": ["x"]}
_Y = {"type": "object", "properties": {"y": {"type": "number"}}, "required": ["y"]}
EXAMPLES = [{"x": [n / 7 + k for k in range(WIDTH)]} for n in range(5)]
SIGNATURE = {"inputs": _X, "outputs": _Y, "examples": EXAMPLES}
RECIPE = Recipe(
    name="network",
    summary="A perceptron.",
    params=Params,
    presets={},
    inputs=_X,
    outputs=_Y,
    check="tests.inference.tiny:check",
    fit="tests.inference.tiny:fit",
    predictor="tests.inference.network:Predictor",
)


class Predictor:
    nbytes = 1000

    def __init__(self) -> None:
        torch.manual_seed(5)
        layers = nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, 1)
        self.network = nn.Sequential(*layers).eval()

    @classmethod
    def load(cls, directory: Path, device: str) -> Predictor:
        return cls()

    def encode(self, item: Any) -> list[float]:
        if len(item["x"]) != WIDTH:
            raise BadItem(f"x must have {WIDTH} numbers")
        return [float(one) for one in item["x"]]

    def tensors(self, encoded: list[list[float]]) -> tuple[Tensor]:
        return (torch.tensor(encoded),)

    def answers(
        self, encoded: list[list[float]], outputs: tuple[Tensor, ...]
    ) -> list[dict[str, Any]]:
        return [{"y": value} for value in outputs[0].squeeze(1).tolist()]

    def predict(self, encoded: list[list[float]]) -> list[dict[str, Any]]:
        return self.answers(encoded, (self.network(*self.tensors(encoded)),))
