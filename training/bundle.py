"""A trained model as a directory: the same training twice gives the same bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from registry.errors import Problem
from training.bundle_head import CONFIG, FORMAT, WEIGHTS, read_head
from training.checkpoints import fsync_directory

SIGNATURE, METRICS = "signature.json", "metrics.json"


@dataclass(frozen=True)
class Bundle:
    """What a model directory holds; `config` is the recipe's own part of config.json."""

    recipe: str
    params: dict[str, Any]
    config: dict[str, Any]
    signature: dict[str, Any]
    metrics: dict[str, Any]
    tensors: dict[str, Tensor]


def save_bundle(
    directory: Path,
    *,
    recipe: str,
    params: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    signature: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> None:
    """Make `directory`, absent or empty before, a model; it appears whole or not at all.

    `signature` has `inputs` and `outputs` (JSON Schemas) and `examples` of inputs. Numbers must be
    finite. Raises OSError if the directory is not empty.
    """
    head = {
        "format": FORMAT,
        "recipe": recipe,
        "params": dict(params),
        "config": dict(config),
        "versions": {"compass": compass_version(), "torch": torch.__version__},
    }
    ready = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    files = {
        WEIGHTS: save(ready, metadata={"format": "pt"}),
        CONFIG: as_json(head),
        SIGNATURE: as_json(signature),
        METRICS: as_json(metrics),
    }
    aside = directory.with_name(directory.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, content in files.items():
        with (aside / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    fsync_directory(aside)
    aside.replace(directory)
    fsync_directory(directory.parent)


def load_bundle(directory: Path) -> Bundle:
    """The model in `directory`, with its tensors on the CPU. Raises Problem `model_unavailable`."""
    try:
        head = read_head(directory)
        signature, metrics = (
            json.loads((directory / name).read_bytes()) for name in (SIGNATURE, METRICS)
        )
        tensors = load_file(directory / WEIGHTS)
        return Bundle(
            head["recipe"], head["params"], head["config"], signature, metrics, tensors
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise Problem(
            "model_unavailable", f"The model's files cannot be read: {error}"
        ) from error


def as_json(value: Any) -> bytes:
    """JSON that is the same bytes for equal values. Raises ValueError for NaN and infinity."""
    text = json.dumps(
        value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False
    )
    return text.encode() + b"\n"


@cache
def compass_version() -> str:
    """The newest version that the change log names."""
    log = Path(__file__).parents[1] / "CHANGELOG.md"
    text = log.read_text() if log.exists() else ""
    found = re.search(r"^## \[?(\d[\w.]*)", text, re.MULTILINE)
    return found[1] if found else "0"
