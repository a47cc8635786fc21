"""A recipe that doubles a number, and fails in the ways that a test asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from registry import publish, store
from registry.addresses import check_name
from registry.errors import BadItem
from registry.models import Model, ModelVersion
from registry.recipes import Params, Recipe

POISON, NO_NUMBER = 666.0, 13.0
SECRET = "/srv/secret/place"
_X = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
_Y = {"type": "object", "properties": {"y": {"type": "number"}}, "required": ["y"]}
RECIPE = Recipe(
    name="tiny",
    summary="Doubles.",
    params=Params,
    presets={},
    inputs=_X,
    outputs=_Y,
    check="tests.inference.tiny:check",
    fit="tests.inference.tiny:fit",
    predictor="tests.inference.tiny:Predictor",
)


class Predictor:
    """`batches` are the sizes of all calls of `predict` in this process."""

    nbytes = 8
    batches: list[int] = []
    loads: list[str] = []

    @classmethod
    def load(cls, directory: Path, device: str) -> Predictor:
        cls.loads.append(directory.name)
        if json.loads((directory / "config.json").read_bytes())["params"].get("broken"):
            raise RuntimeError(f"no such file: {SECRET}")
        return cls()

    def encode(self, item: Any) -> float:
        x = item["x"]
        if x == "crash":
            raise RuntimeError(SECRET)
        if isinstance(x, str):
            raise BadItem("x must be a number")
        return float(x)

    def predict(self, encoded: list[float]) -> list[dict[str, Any]]:
        self.batches.append(len(encoded))
        if POISON in encoded:
            raise RuntimeError(SECRET)
        return [{"y": float("nan") if x == NO_NUMBER else 2 * x} for x in encoded]


def model_directory(weight: float = 0.0, **changes: Any) -> Path:
    """A finished training's output, whole unless changed."""
    directory = store.aside()
    directory.mkdir()
    save_file({"weight": np.array([weight])}, directory / "model.safetensors")
    files: dict[str, Any] = {
        "config": {
            "recipe": "tiny",
            "params": {"seed": 7},
            "versions": {"compass": "0"},
        },
        "signature": {"inputs": _X, "outputs": _Y, "examples": [{"x": 1.0}]},
        "metrics": {"loss": 0.5},
    }
    for name, value in (files | changes).items():
        (directory / f"{name}.json").write_text(json.dumps(value))
    return directory


def make_version(
    name: str = "tiny", weight: float = 0.0, owner: Any = None, **changes: Any
) -> ModelVersion:
    """A registered version, without the task that would have made it."""
    found = publish.prepare(model_directory(weight, **changes))
    model, _ = Model.objects.get_or_create(
        name=check_name(name), defaults={"created_at": publish.clock.now()}
    )
    return model.register(
        digest=found.digest,
        weights_sha256=found.weights_sha256,
        size=found.size,
        recipe=found.recipe,
        params=found.params,
        metrics=found.metrics,
        signature=found.signature,
        owner=owner,
    )
