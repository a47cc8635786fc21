"""What a model directory says of itself, read without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import Problem

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_head(directory: Path) -> dict[str, Any]:
    """Its config.json; `config` is the recipe's own part.

    Raises Problem `model_unavailable`, and OSError, ValueError, KeyError or TypeError for what is no such file.
    """
    head: dict[str, Any] = json.loads((directory / CONFIG).read_bytes())
    if head["format"] != FORMAT:
        text = f"The model has format {head['format']!r}; this version reads {FORMAT}."
        raise Problem("model_unavailable", text)
    return head


def read_tensors(directory: Path) -> dict[str, NDArray[Any]]:
    """Its tensors as they stand in the mapped file, whose pages all processes share.

    Raises OSError, ValueError or KeyError for what is no such file, or has other numbers.
    """
    import numpy as np

    file = directory / WEIGHTS
    mapped = np.memmap(file, np.uint8, "r")
    begin = 8 + int.from_bytes(mapped[:8].tobytes(), "little")
    about: dict[str, Any] = json.loads(mapped[8:begin].tobytes())
    about.pop("__metadata__", None)
    found = {}
    for name, one in about.items():
        first, last = one["data_offsets"]
        values = mapped[begin + first : begin + last].view(TYPES[one["dtype"]])
        found[name] = np.asarray(values.reshape(one["shape"]))
    return found
