"""A stranger's model is first loaded in a process of its own, with little memory and no secrets."""

from __future__ import annotations

import logging
import signal
import subprocess
from pathlib import Path
from typing import Any

from registry import confined, turns
from registry.errors import CATALOGUE, Problem

log = logging.getLogger(__name__)

MODULE = "inference.trial"
LONGEST = 120.0  # seconds, of which importing torch takes some
PATIENCE = 30.0  # seconds to wait for the turn
SPARE = 768 * 1024**2  # bytes of memory for any model
TIMES = 4  # the size of its files, besides
AT_ONCE = 1  # on a machine: it costs as much as a worker


def run(directory: Path, predictor: str) -> dict[str, Any]:
    """Load the model in `directory` and let it answer its examples; what its files say by themselves.

    `predictor` is a dotted path. Raises Problem `bad_model`, `unsafe_model`, `busy`.
    """
    try:
        with turns.turn("model-trial", AT_ONCE, seconds=PATIENCE):
            return _run(directory, predictor)
    except TimeoutError:
        text = "Another model is being looked at; send this one again."
        raise Problem("busy", text, retry_after=10) from None


def _run(directory: Path, predictor: str) -> dict[str, Any]:
    size = sum(one.stat().st_size for one in directory.iterdir())
    memory = SPARE + TIMES * size
    arguments = [predictor, str(directory), str(memory)]
    try:
        ended = confined.run(MODULE, arguments, seconds=LONGEST)
    except subprocess.TimeoutExpired:
        raise bad(f"Loading it took longer than {LONGEST:g} s.") from None
    found = ended.found
    if found is None:
        log.warning("A model's trial ended: %r", ended.last_words)
        raise bad(f"Loading it ended {_how(ended.code, memory)}.")
    if error := found.get("error"):
        code = error["code"] if error["code"] in CATALOGUE else "bad_model"
        raise Problem(code, error["detail"])
    return found


def bad(text: str) -> Problem:
    return Problem("bad_model", text)


def _how(code: int, memory: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"by {name}; it may have asked for more than {memory:,} bytes of memory"
    return f"with code {code} and no word"
