"""The recipe `journal`: counts steps, keeps each one, and writes down what it does.

A real stack finds it by the entry point in tests/chaos/installed, which the harness puts on
PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from registry.recipes import Params, Recipe
from registry.resources import Resources
from tests.chaos.journal import VARIABLE, Journal
from training.context import Context, Stopped


class JournalParams(Params):
    steps: int = Field(20, ge=1, le=100_000)
    pause: float = Field(0.1, ge=0, le=60, description="seconds a step")
    linger: float = Field(0.0, ge=0, le=60, description="seconds to stop, once asked")
    gate: str = Field("", description="no second step while there is such a file")
    end: Literal["complete", "error"] = "complete"


def check(columns: list[str], params: JournalParams) -> None:
    """Every data set will do."""


def fit(params: JournalParams, dataset: Path, context: Context) -> None:
    journal = open_journal(context)
    kept = context.checkpoints / "step"
    begin = int(kept.read_text()) if context.resume and kept.exists() else 0
    journal.write("start", begin)
    for step in range(begin, params.steps):
        if context.should_stop():
            time.sleep(params.linger)
            journal.write("stop", step)
            raise Stopped
        while step == begin + 1 and _is_shut(params.gate):
            context.stop_if_asked()
            time.sleep(0.02)
        time.sleep(params.pause)
        journal.write("step", step)
        _keep(kept, step + 1)
        context.progress(
            fraction=(step + 1) / params.steps, step=step + 1, steps=params.steps
        )
        context.metric(step, loss=1.0 / (step + 1))
    if params.end == "error":
        raise RuntimeError("as it was asked to")
    _write_model(params, context.output)
    journal.write("end", params.steps)


def open_journal(context: Context) -> Journal:
    """The journal for the attempt in whose directory the job works: tasks/ID/attempt-N/scratch."""
    attempt = context.scratch.parent
    number = int(attempt.name.removeprefix("attempt-"))
    return Journal(Path(os.environ[VARIABLE]), int(attempt.parent.name), number)


def _is_shut(gate: str) -> bool:
    return bool(gate) and Path(gate).exists()


def _keep(path: Path, step: int) -> None:
    aside = path.with_name(f"step.{os.getpid()}.part")
    with aside.open("w") as file:
        file.write(str(step))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _write_model(params: JournalParams, output: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"weight": np.array([float(params.seed)])}, output / "model.safetensors")
    config = {"recipe": "journal", "params": params.model_dump(), "format": 1}
    signature: dict[str, Any] = {
        "inputs": _X, "outputs": _Y, "examples": [{"x": 1.0}],
    }  # fmt: skip
    for name, value in (
        ("config", config), ("signature", signature), ("metrics", {"loss": 0.5}),
    ):  # fmt: skip
        (output / f"{name}.json").write_text(json.dumps(value, sort_keys=True))


_X = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
_Y = {"type": "object", "properties": {"y": {"type": "number"}}, "required": ["y"]}
RECIPE = Recipe(
    name="journal",
    summary="Counts steps and writes them down.",
    params=JournalParams,
    presets={},
    inputs=_X,
    outputs=_Y,
    check="tests.chaos.recipe:check",
    fit="tests.chaos.recipe:fit",
    predictor="tests.fake_recipe:FakePredictor",
    resources=Resources(1, 0, 64 * 1024**2),
)
