"""A training of a small network on made-up numbers: as a recipe, with Compass's Trainer, and bare.

The bare loop is what one would write without Compass: no checkpoints, no reports, no wishes.
Run as a program it trains in a process of its own, with the Trainer (`alone`) or without any of Compass
(`bare`), and prints what the loop took.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import Field

from registry.recipes import Params, Recipe

SIZE, INPUTS, BATCH = 16_384, 64, 128


class LoopParams(Params):
    epochs: int = Field(1, ge=1, le=1000)
    hidden: int = Field(256, ge=1, le=4096)


def check(columns: list[str], params: LoopParams) -> None:
    """Any data set will do; it is not read."""


def make(hidden: int) -> tuple[Any, Any, Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    inputs = torch.randn(SIZE, INPUTS)
    targets = inputs[:, :8].sin().sum(1, keepdim=True)
    module = nn.Sequential(
        nn.Linear(INPUTS, hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, 1),
    )  # fmt: skip
    return module, inputs, targets


def fit(params: LoopParams, dataset: Path, context: Any) -> None:
    from torch.nn import functional

    from training.trainer import Trainer, TrainerConfig

    module, inputs, targets = make(params.hidden)
    count = 0

    def loss(model: Any, indices: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:  # the first step has been made
            print(f"first step at {time.time():.6f}", flush=True)
        return functional.mse_loss(model(inputs[indices]), targets[indices])

    config = TrainerConfig(
        epochs=params.epochs,
        batch_size=BATCH,
        learning_rate=1e-3,
        schedule="constant",
        keep="last",
    )
    began, had = time.perf_counter(), time.process_time()
    Trainer(module, loss, SIZE, config, context).fit()
    took, cpu = time.perf_counter() - began, time.process_time() - had
    print(f"loop took {took:.6f} cpu {cpu:.6f}", flush=True)
    _write(module, params, context.output)


def bare(epochs: int, hidden: int) -> tuple[float, float]:
    """Seconds that the plain loop takes, and of a core; with the Trainer's optimizer."""
    import torch
    from torch.nn import functional

    from training.optimizers import make_optimizer

    torch.set_num_threads(1)
    _warm_up()
    module, inputs, targets = make(hidden)
    began, had = time.perf_counter(), time.process_time()
    optimizer = make_optimizer(module, "adamw", 1e-3, 0.0)
    for epoch in range(epochs):
        order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(epoch))
        for indices in order.tensor_split(SIZE // BATCH):
            loss = functional.mse_loss(module(inputs[indices]), targets[indices])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()
    return time.perf_counter() - began, time.process_time() - had


def alone(epochs: int, hidden: int) -> None:
    """The recipe's own fit as a script, on nothing but a directory."""
    import torch

    from training.context import Context

    torch.set_num_threads(1)
    _warm_up()
    with TemporaryDirectory(prefix="compass-bench-") as folder:
        places = {
            name: Path(folder) / name for name in ("checkpoints", "output", "scratch")
        }
        for place in places.values():
            place.mkdir()
        context = Context(
            device="cpu",
            threads=1,
            resume=False,
            report=lambda event: None,
            should_stop=lambda: False,
            **places,
        )
        fit(LoopParams(epochs=epochs, hidden=hidden), Path(folder), context)


def _warm_up() -> None:
    """The first step imports what Compass's launcher holds ready."""
    import torch

    from training.optimizers import make_optimizer

    module = torch.nn.Linear(1, 1)
    module(torch.ones(1, 1)).sum().backward()
    make_optimizer(module, "adamw", 1e-3, 0.0).step()


@contextmanager
def known() -> Iterator[dict[str, str]]:
    """The variables with which a stack finds the recipe `loop`, as an installed package's."""
    root = str(Path(__file__).resolve().parent.parent)
    with TemporaryDirectory(prefix="compass-bench-") as folder:
        facts = Path(folder) / "compass_bench-0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: compass-bench\nVersion: 0\n")  # fmt: skip
        entry = "[compass.recipes]\nloop = bench.loop:RECIPE\n"
        (facts / "entry_points.txt").write_text(entry)
        yield {"PYTHONPATH": os.pathsep.join([folder, root])}


def _write(module: Any, params: LoopParams, output: Path) -> None:
    import json

    from safetensors.torch import save_file

    save_file(module.state_dict(), output / "model.safetensors")
    config = {"recipe": "loop", "params": params.model_dump(), "format": 1}
    signature = {"inputs": _X, "outputs": _Y, "examples": [{"x": 1.0}]}
    for name, value in (("config", config), ("signature", signature), ("metrics", {})):
        (output / f"{name}.json").write_text(json.dumps(value))


_X = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
_Y = {"type": "object", "properties": {"y": {"type": "number"}}, "required": ["y"]}
RECIPE = Recipe(
    name="loop",
    summary="Trains a small network on made-up numbers, for the benchmarks.",
    params=LoopParams,
    presets={
        "smoke_test": {},
        "prototyping": {},
        "validation": {},
        "production": {},
    },
    inputs=_X,
    outputs=_Y,
    check="bench.loop:check",
    fit="bench.loop:fit",
    predictor="bench.loop:make",
)

if __name__ == "__main__":
    numbers = int(sys.argv[2]), int(sys.argv[3])
    if sys.argv[1] == "alone":
        alone(*numbers)
    else:
        print("loop took {:.6f} cpu {:.6f}".format(*bare(*numbers)))
