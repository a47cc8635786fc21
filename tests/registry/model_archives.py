"""Archives of models for tests of what takes them in: whole ones, and those that do harm."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save

SIZED = {"recipe": "sized", "params": {"seed": 3}, "versions": {"compass": "0"}}


def files(width: int = 4, **changes: Any) -> dict[str, bytes]:
    """The files of a model of the recipe `sized`; None leaves one out."""
    weights = {"weight": np.arange(width, dtype=np.float32)}
    config = {**SIZED, "config": {"width": width}}
    whole: dict[str, Any] = {
        "config.json": config,
        "model.safetensors": save(weights),
        "signature.json": None,
        "metrics.json": {"loss": 0.5},
    }
    found = whole | changes
    return {
        name: value if isinstance(value, bytes) else json.dumps(value).encode()
        for name, value in found.items()
        if value is not None
    }


def tar(members: Mapping[str, bytes], *, packed: bool = False, at: str = "") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz" if packed else "w") as archive:
        for name, content in members.items():
            one = tarfile.TarInfo(f"{at}{name}")
            one.size = len(content)
            archive.addfile(one, io.BytesIO(content))
    return file.getvalue()


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()
