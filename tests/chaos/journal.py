"""The journal of the jobs: one file, one line an act, in the order in which they happened.

Every line is one `write` to a file opened for appending, so lines neither mix nor change places.
It knows nothing of Compass, for it is written by the jobs and read as evidence against it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "COMPASS_JOB_JOURNAL"


@dataclass(frozen=True)
class Entry:
    """`what` is start, step, stop or end; `at` is the host's monotonic clock in seconds."""

    at: float
    task: int
    attempt: int
    pid: int
    what: str
    step: int


class Journal:
    """Writes for one attempt of one task."""

    def __init__(self, path: Path, task: int, attempt: int) -> None:
        self.task, self.attempt = task, attempt
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, step: int) -> None:
        entry = {
            "at": round(time.monotonic(), 4),
            "task": self.task,
            "attempt": self.attempt,
            "pid": os.getpid(),
            "what": what,
            "step": step,
        }
        os.write(self._file, f"{json.dumps(entry)}\n".encode())


def read(path: Path) -> list[Entry]:
    """All entries in the order of their writing; a damaged line is an error."""
    if not path.exists():
        return []
    return [Entry(**json.loads(line)) for line in path.read_text().splitlines()]
