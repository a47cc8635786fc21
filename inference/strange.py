"""Strangers' Parquet files as this process may see them: unpacked by another one, within limits."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import confined, turns
from registry.errors import BadData, Problem

log = logging.getLogger(__name__)

MODULE = "inference.unpack"
MEMORY = 512 * 1024**2  # bytes beyond those that the process has before it reads
RATIO = 100  # unpacked to the file; a dictionary's values may be there a million times
HARMLESS = 1024**3  # bytes that any file may unpack to, whatever the ratio
PROCESSOR = 900  # seconds, for all of a file
LOOK_PROCESSOR = 20  # seconds, for its first rows
LOOK_WRITTEN = 256 * 1024**2  # bytes
LOOK_LONGEST = 60.0  # seconds on a clock
LOOKS = UNPACKS = 2  # at once on a machine
PATIENCE = 10.0  # seconds to wait for a turn
BUSY_FOR = 5  # seconds
ASKED_TO_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# So that what is asked for and what is taken are one, and the limit hits the right one.
VARIABLES = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Look:
    """How many rows a file has as it says itself, and the first of them."""

    rows: int
    first: Any  # a pyarrow.Table


def look(path: Path, count: int) -> Look:
    """Raises BadData, FileNotFoundError, and Problem `busy` if too many are looked at."""
    try:
        with turns.turn("parquet-look", LOOKS, seconds=PATIENCE):
            return _look(path, count)
    except TimeoutError:
        raise _busy("Other Parquet files are being looked at") from None


def _look(path: Path, count: int) -> Look:
    import pyarrow

    made = os.memfd_create("rows")
    try:
        order = {
            "path": str(path),
            "target": f"/dev/fd/{made}",
            "every": count,
            "count": count,
            "allowed": _allowed(path),
            "written": LOOK_WRITTEN,
            "processor": LOOK_PROCESSOR,
        }
        try:
            found = _run(order, seconds=LOOK_LONGEST, files=[made])
        except (subprocess.TimeoutExpired, InterruptedError):
            raise _busy("Looking at the Parquet file took too long") from None
        with os.fdopen(os.dup(made), "rb") as file:
            return Look(found["rows"], pyarrow.ipc.open_file(file).read_all())
    finally:
        os.close(made)


def unpack(
    path: Path, target: Path, every: int, written: int, tick: Callable[[], object]
) -> tuple[int, list[int]]:
    """Write the rows to `target` as an Arrow file of at most `written` bytes, or fewer as its own
    size has it; the number of rows, and the number of the batch in which each `every` rows begin.

    `tick` is called meanwhile; if it raises, that is the end. Raises BadData and OSError.
    """
    allowed = _allowed(path)
    order = {
        "path": str(path),
        "target": str(target),
        "every": every,
        "count": None,
        "allowed": allowed,
        "written": min(written, allowed),
        "processor": PROCESSOR,
    }
    with turns.turn("parquet-unpack", UNPACKS, tick=tick):
        found = _run(order, tick=tick)
    return found["written"], found["starts"]


def _run(order: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    arguments = [json.dumps({**order, "memory": MEMORY})]
    ended = confined.run(MODULE, arguments, variables=VARIABLES, **options)
    found = ended.found
    if found is None:
        log.warning("%s: %s %r", MODULE, ended.code, ended.last_words)
        if ended.signal in ASKED_TO_STOP:
            raise InterruptedError("the process that read a Parquet file was stopped")
        if not ended.has_begun:
            raise OSError("the process that reads Parquet files does not start")
        options.get("tick", lambda: None)()  # perhaps everything is being stopped
        raise _bad(_how(ended, order["processor"]))
    if "errno" in found:
        raise OSError(found["errno"], os.strerror(found["errno"]))
    if "error" in found:
        raise _bad(found["error"])
    return found


def _allowed(path: Path) -> int:
    return max(HARMLESS, RATIO * path.stat().st_size)


def _how(ended: confined.Ended, processor: int) -> str:
    if ended.signal == signal.SIGXCPU:
        return f"reading it takes more than {processor:,} s of processor time"
    if ended.signal is not None:
        return f"reading it was ended by {ended.signal.name}"
    return f"reading it ended with code {ended.code} and no word"


def _bad(text: str) -> BadData:
    return BadData(f"the Parquet file cannot be read: {text}")


def _busy(text: str) -> Problem:
    return Problem("busy", f"{text}; send this again.", retry_after=BUSY_FOR)
