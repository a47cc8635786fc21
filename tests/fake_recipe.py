"""A recipe without torch for tests of what runs recipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from registry import recipes
from registry.errors import BadData, BadItem
from registry.recipes import Params, Recipe
from training.context import Context, Stopped


class FakeParams(Params):
    steps: int = Field(3, ge=1, le=100_000)
    pause: float = Field(0.0, ge=0, le=60)  # seconds a step
    end: Literal[
        "complete", "error", "bad_data", "memory", "disk", "exit", "kill", "silent",
        "django", "no_model",
    ] = "complete"  # fmt: skip
    deaf: bool = False
    child: bool = False


def check(columns: list[str], params: FakeParams) -> None:
    if "affinity" not in columns:
        raise BadData("is missing", column="affinity")


def fit(params: FakeParams, dataset: Path, context: Context) -> None:
    note = context.checkpoints / "step"
    begin = int(note.read_text()) if context.resume and note.exists() else 0
    sys.stdout.write(f"from step {begin}\n")
    if params.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if params.child:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    for step in range(begin, params.steps):
        context.progress(fraction=step / params.steps, step=step, steps=params.steps)
        context.metric(step, loss=1.0 / (step + 1))
        if context.should_stop() and not params.deaf:
            note.write_text(str(step))
            raise Stopped
        if params.pause:
            time.sleep(params.pause)
        note.write_text(str(step + 1))
    _end(params, context)


def _end(params: FakeParams, context: Context) -> None:
    if params.end == "error":
        raise RuntimeError("")
    if params.end == "bad_data":
        raise BadData("is not a number", row=7, column="affinity")
    if params.end == "memory":
        raise MemoryError
    if params.end == "disk":
        raise OSError(28, "No space left on device")
    if params.end == "exit":
        os._exit(3)
    if params.end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if params.end == "silent":
        os._exit(0)
    if params.end == "django":
        assert "django" not in sys.modules, "a job must not know Django"
        assert not [
            name for name in os.environ if "SECRET" in name or "DATABASE" in name
        ]
    context.metric(params.steps, done=1.0)
    if params.end != "no_model":
        _write_model(params, context.output)


def _write_model(params: FakeParams, output: Path) -> None:
    import json

    import numpy as np
    from safetensors.numpy import save_file

    save_file({"weight": np.array([float(params.seed)])}, output / "model.safetensors")
    config = {"recipe": "fake", "params": params.model_dump(), "format": 1}
    signature: dict[str, Any] = {
        "inputs": RECIPE.inputs, "outputs": RECIPE.outputs, "examples": [{"x": 1.0}],
    }  # fmt: skip
    for name, value in (
        ("config", config), ("signature", signature), ("metrics", {"loss": 0.5}),
    ):  # fmt: skip
        (output / f"{name}.json").write_text(json.dumps(value, sort_keys=True))


class FakePredictor:
    nbytes = 8

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> FakePredictor:
        return cls()

    def encode(self, item: Any) -> float:
        if not isinstance(item.get("x"), int | float):
            raise BadItem("x must be a number")
        return float(item["x"])

    def predict(self, encoded: list[float]) -> list[dict[str, float]]:
        return [{"y": 2 * x} for x in encoded]


_X = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
_Y = {"type": "object", "properties": {"y": {"type": "number"}}, "required": ["y"]}
RECIPE = Recipe(
    name="fake",
    summary="Counts steps.",
    params=FakeParams,
    presets={
        "smoke_test": {"steps": 1},
        "prototyping": {},
        "validation": {},
        "production": {},
    },
    inputs=_X,
    outputs=_Y,
    check="tests.fake_recipe:check",
    fit="tests.fake_recipe:fit",
    predictor="tests.fake_recipe:FakePredictor",
)
PATH = "tests.fake_recipe:RECIPE"


def make_known(built_in: dict[str, str] = recipes.BUILT_IN) -> None:
    built_in["fake"] = PATH
    recipes._paths.cache_clear()
