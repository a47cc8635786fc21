"""What a model directory says of itself, read without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from registry.errors import Problem

FORMAT = 1
CONFIG = "config.json"


def read_head(directory: Path) -> dict[str, Any]:
    """Its config.json; `config` is the recipe's own part.

    Raises Problem `model_unavailable`, and OSError, ValueError, KeyError or TypeError for what is no such file.
    """
    head: dict[str, Any] = json.loads((directory / CONFIG).read_bytes())
    if head["format"] != FORMAT:
        text = f"The model has format {head['format']!r}; this version reads {FORMAT}."
        raise Problem("model_unavailable", text)
    return head
