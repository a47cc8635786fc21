"""Uploads that a script reads: copies in its directory, for it may write what it likes there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from registry import jail

PIECE = 32 * 1024**2  # bytes copied between two looks at the wishes

Identity = tuple[int, int]


def place(
    work: Path, inputs: Mapping[str, str], should_stop: Callable[[], bool]
) -> dict[str, Identity]:
    """Copy each source to its name; what is there then, to tell later what was changed."""
    placed = {}
    for name, source in inputs.items():
        target = jail.create(work, name, flags=0)
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while not should_stop() and _copy(reading, target):
                continue
            placed[name] = _identity(os.fstat(target))
        finally:
            os.close(reading)
            os.close(target)
    return placed


def remove_unchanged(work: Path, placed: Mapping[str, Identity]) -> None:
    """Leave what the script made, and the inputs that it wrote to."""
    for name, before in placed.items():
        descriptor = jail.open_file(work, name)
        if descriptor is None:
            continue
        try:
            is_same = _identity(os.fstat(descriptor)) == before
        finally:
            os.close(descriptor)
        if is_same:
            (work / name).unlink(missing_ok=True)


def _copy(source: int, target: int) -> int:
    """Copy the next piece, where it can be by sharing it; 0 at the end."""
    try:
        return os.copy_file_range(source, target, PIECE)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        return os.sendfile(target, source, None, PIECE)


def _identity(status: os.stat_result) -> Identity:
    return status.st_size, status.st_mtime_ns
