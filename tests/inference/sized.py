"""A recipe whose models are as large as their config says, in a process without Django too."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from registry.errors import BadItem
from registry.recipes import Params, Recipe

_X = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
_Y = {"type": "object", "properties": {"y": {"type": "number"}}, "required": ["y"]}
RECIPE = Recipe(
    name="sized",
    summary="Adds the sum of its weights.",
    params=Params,
    presets={},
    inputs=_X,
    outputs=_Y,
    check="tests.inference.sized:check",
    fit="tests.inference.sized:fit",
    predictor="tests.inference.sized:Predictor",
)


class Predictor:
    def __init__(self, weight: Any) -> None:
        self.weight, self.nbytes = weight, int(weight.nbytes)

    @classmethod
    def load(cls, directory: Path, device: str) -> Predictor:
        own = json.loads((directory / "config.json").read_bytes())["config"]
        if own.get("end"):
            os._exit(9)
        if own.get("sleep"):
            time.sleep(60)
        if own.get("secrets"):
            found = [one for one in os.environ if "COMPASS" in one or "DJANGO" in one]
            raise ValueError(f"knows {found} at {directory}/config.json")
        room = np.ones(own["width"], np.float32)
        stored = load_file(directory / "model.safetensors")["weight"]
        if stored.shape != room.shape:
            raise ValueError(f"{stored.shape} is not {room.shape}")
        return cls(stored)

    def encode(self, item: Any) -> float:
        if not isinstance(item, dict) or not isinstance(item.get("x"), int | float):
            raise BadItem("x must be a number")
        return float(item["x"])

    def predict(self, encoded: list[float]) -> list[dict[str, Any]]:
        return [{"y": x + float(self.weight.sum())} for x in encoded]
