"""Directories that somebody else filled: deeper than Python's stack, longer than any path, read-only."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(root: Path) -> None:
    """Remove a directory with all in it, if it is there; what cannot go stays, and is logged."""
    try:
        top = os.open(root, DIRECTORY)
        try:
            os.fchmod(top, 0o700)
            _empty(top)
        finally:
            os.close(top)
        root.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s could not be removed: %s", root, error)


def _empty(top: int) -> None:
    """Move each directory up before it is emptied, so that none is deep."""
    line = _remove_files(top)
    while line:
        name = line.pop()
        with suppress(OSError):
            inner = os.open(name, DIRECTORY, dir_fd=top)
            try:
                for child in _remove_files(inner):
                    moved = os.urandom(12).hex()
                    os.rename(child, moved, src_dir_fd=inner, dst_dir_fd=top)
                    line.append(moved)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _remove_files(directory: int) -> list[str]:
    """Remove the files of an open directory; the names of the directories in it."""
    with os.scandir(directory) as entries:
        found = list(entries)
    inside = []
    for entry in found:
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                # Without its own right to write it can be neither moved nor emptied.
                os.chmod(entry.name, 0o700, dir_fd=directory)
                inside.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=directory)
    return inside
