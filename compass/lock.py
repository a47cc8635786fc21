"""One stack to a data directory."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

PATIENCE = 10.0  # seconds that the processes of a killed stack may take to end


class Taken(Exception):
    """Another stack holds the directory."""


class DirectoryLock:
    """A lock file that names its holder.

    The stack's children inherit it, so it is free only when the last of them is gone.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "lock"
        self.descriptor = -1

    def take(self) -> None:
        """Take the lock. Raises Taken, at once if its holder lives."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = holder_of(self.path.parent)
                if holder or time.monotonic() > deadline:
                    os.close(self.descriptor)
                    raise Taken(_sentence(self.path.parent, holder)) from None
                time.sleep(0.1)
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def holder_of(data_dir: Path) -> int:
    """The process id of the stack that holds the directory; 0 if none lives."""
    try:
        with (data_dir / "lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = int(file.read() or b"0")
                return pid if pid and _lives(pid) else 0
            return 0
    except (OSError, ValueError):
        return 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sentence(data_dir: Path, holder: int) -> str:
    if holder:
        return (
            f"A stack (process {holder}) already runs on {data_dir}. "
            "Stop it, or give this one another directory with --data-dir."
        )
    return (
        f"The processes of an earlier stack on {data_dir} are still ending. "
        "Try again in a moment."
    )
