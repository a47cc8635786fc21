"""The log files of the stack's processes: bounded in size, and quiet on regular duties."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import BinaryIO

LIMIT = 10 * 1024**2  # bytes; a longer log is put aside
KEPT = 3  # logs put aside
TAIL = 16 * 1024  # bytes
DUTIES = {"registry.dispatch", "registry.rescue", "registry.expire"}


def open_log(path: Path) -> BinaryIO:
    """The log to append to; one that has grown too long is put aside first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    rotate(path)
    return path.open("ab")


def rotate(path: Path) -> bool:
    """Put a log that has grown too long aside, as `.log.1`; true if it was.

    Its writers keep the file open, so it is copied and then emptied: they append, and go on
    at its new end. Raises OSError.
    """
    try:
        if path.stat().st_size <= LIMIT:
            return False
    except FileNotFoundError:
        return False
    copy_path = path.with_suffix(".log.new")
    try:
        with path.open("rb+") as log, copy_path.open("wb") as copy:
            os.fchmod(copy.fileno(), os.fstat(log.fileno()).st_mode & 0o777)
            shutil.copyfileobj(log, copy, 1024**2)
            copy.flush()
            for number in range(KEPT - 1, 0, -1):
                if _aside(path, number).exists():
                    _aside(path, number).replace(_aside(path, number + 1))
            copy_path.replace(_aside(path, 1))
            # What is written between the last read and the next line is lost.
            shutil.copyfileobj(log, copy)
            log.truncate(0)
    finally:
        copy_path.unlink(missing_ok=True)
    return True


def tail(path: Path, lines: int) -> str:
    """The last lines of a file, of at most 16 KiB."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


class NotRegular(logging.Filter):
    """Drops Celery's notes on each duty sent, received and done, unless all is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.INFO or logging.root.isEnabledFor(logging.DEBUG):
            return True
        data = getattr(record, "data", None)
        name = data.get("name") if isinstance(data, dict) else None
        words = record.args if isinstance(record.args, tuple) else ()
        return name not in DUTIES and not DUTIES.intersection(map(str, words))


def _aside(path: Path, number: int) -> Path:
    return path.with_suffix(f".log.{number}")
