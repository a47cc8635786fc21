"""The two models of the comparison: `tiny` is all overhead, `dta` is all compute."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.serving.inputs import (
    LETTERS,
    WIDTH,
    arrays,
    encode,
    encode_all,
    items,
)  # fmt: skip

__all__ = [
    "LETTERS", "MODULES", "WIDTH", "Dta", "Tiny", "encode", "encode_all", "items", "make",
    "stack", "wanted", "write",
]  # fmt: skip


class Tiny(nn.Module):
    """A perceptron 128-256-256-1."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(WIDTH, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
            nn.Linear(256, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Dta(nn.Module):
    """Two branches of 1-D convolutions over letters, as DeepDTA has; 2 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.ligand, self.protein = _branch(LETTERS[0]), _branch(LETTERS[1])
        self.head = nn.Sequential(
            nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(),
            nn.Linear(512, 1),
        )  # fmt: skip

    def forward(self, ligand: Tensor, protein: Tensor) -> Tensor:
        parts = [
            branch[1:](branch[0](letters).transpose(1, 2)).amax(2)
            for branch, letters in ((self.ligand, ligand), (self.protein, protein))
        ]
        return self.head(torch.cat(parts, 1))


def _branch(letters: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Embedding(letters + 1, 128),
        nn.Conv1d(128, 128, 5), nn.ReLU(), nn.Conv1d(128, 192, 5), nn.ReLU(),
        nn.Conv1d(192, 256, 5), nn.ReLU(),
    )  # fmt: skip


MODULES: dict[str, type[nn.Module]] = {"tiny": Tiny, "dta": Dta}


def make(name: str, weights: Path | None = None, seed: int | None = None) -> nn.Module:
    """The module with its weights, with those of a seed, or with those that its name always gives."""
    torch.manual_seed(len(name) if seed is None else seed)
    module = MODULES[name]().eval()
    if weights is not None:
        module.load_state_dict(load_file(weights))
    return module


def stack(rows: list[tuple[np.ndarray, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(one) for one in arrays(rows))


def answer(network: nn.Module, name: str, some: Sequence[Any]) -> list[float]:
    """What the module says of the items, as every peer asks it. Raises ValueError."""
    rows = [encode(name, item) for item in some]
    with torch.inference_mode():
        return network(*stack(rows)).squeeze(1).tolist()  # type: ignore[no-any-return]


def wanted(name: str, some: list[dict[str, Any]]) -> list[float]:
    """What bare torch answers."""
    return answer(make(name), name, some)


def spoilt(name: str) -> dict[str, Any]:
    """An item that `encode` refuses: one of its fields is too short."""
    (item,) = items(name, 1)
    field = next(iter(item))
    return {**item, field: item[field][:-1]}


def write(name: str, directory: Path, seed: int | None = None) -> None:
    """The model as a directory that Compass registers."""
    directory.mkdir(parents=True)
    save_file(make(name, seed=seed).state_dict(), directory / "model.safetensors")
    schema = {"type": "object", "properties": {}}
    files: dict[str, Any] = {
        "config": {"recipe": f"bench_{name}", "params": {}, "versions": {}},
        "signature": {
            "inputs": schema, "outputs": schema, "examples": items(name, 8, seed=1),
        },
        "metrics": {"loss": 0.0},
    }  # fmt: skip
    for file, value in files.items():
        (directory / f"{file}.json").write_text(json.dumps(value))
