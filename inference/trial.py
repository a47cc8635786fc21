"""Loads one model and lets it answer its examples, within limits; says how that went as JSON.

A process of its own, which knows neither the database nor any secret:
`python -m inference.trial PARENT PREDICTOR DIRECTORY BYTES`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from registry import confined, recipes
from registry.errors import BadItem, Problem

CPU_SECONDS = 100
EXAMPLES = 4
NO_MEMORY = re.compile(r"alloc|out of memory|not enough memory", re.IGNORECASE)
LONGEST = 300  # characters of a reason


def look(predictor: str, directory: Path, memory: int) -> dict[str, Any]:
    """What came of it: `{signature}` where the files alone tell it, or `{error: {code, detail}}`."""
    kind = recipes.load(predictor)
    confined.hold(memory, 0, CPU_SECONDS)
    try:
        examine = getattr(kind, "examine", None)
        model = examine(directory) if examine else kind.load(directory, "cpu")
        signature = model.signature if examine else None
        _answer(model, directory, signature)
    except Problem as problem:
        code = "bad_model" if problem.code == "model_unavailable" else problem.code
        return {"error": {"code": code, "detail": _clean(problem.detail, directory)}}
    except Exception as error:
        text = _clean(f"{type(error).__name__}: {error}", directory)
        if isinstance(error, MemoryError) or NO_MEMORY.search(text):
            text = f"It asks for more than {memory:,} bytes of memory."
        else:
            text = f"It cannot be loaded: {text}"
        return {"error": {"code": "bad_model", "detail": text}}
    return {"signature": signature, "bytes": int(model.nbytes)}


def _answer(model: Any, directory: Path, signature: dict[str, Any] | None) -> None:
    """Let it answer the examples of its signature. Raises what the model raises."""
    file = directory / "signature.json"
    told = json.loads(file.read_bytes()) if file.is_file() else signature or {}
    examples = told.get("examples") or []
    if not isinstance(examples, list):
        raise Problem("bad_model", "The examples of signature.json are no list.")
    try:
        encoded = [model.encode(item) for item in examples[:EXAMPLES]]
    except BadItem as error:
        text = f"An example of signature.json cannot be used: {error.detail}"
        raise Problem("bad_model", text) from None
    if encoded:
        answers = model.predict(encoded)
        if len(answers) != len(encoded):
            raise ValueError(f"{len(answers)} answers to {len(encoded)} examples")


def _clean(text: str, directory: Path) -> str:
    """One line without a path."""
    line = " ".join(text.split())
    line = line.replace(f"{directory}/", "").replace(str(directory), "it")
    line = re.sub(r"(?<![\w.])/[\w.-]+(/[\w.-]+)+", "...", line)
    return line[:LONGEST]


def main() -> None:
    (predictor, directory, memory), told = confined.begin()
    confined.tell(told, look(predictor, Path(directory), int(memory)))


if __name__ == "__main__":
    main()
