"""Files by names that a user gave: inside one directory, and over no symbolic link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

LONGEST = 1000  # characters of a name
LONGEST_PART = 200  # bytes of one part of it
DEEPEST = 20


def wrong(name: str) -> str:
    """What is wrong with a relative name, in words; empty if it is good."""
    parts = name.split("/")
    if not name:
        return "must not be empty"
    if name.startswith(("/", "~")):
        return "must be relative to the task's directory"
    if ".." in parts:
        return "must not lead out of the task's directory"
    if any(part in ("", ".") for part in parts):
        return "must be a file's name without empty parts"
    if not name.isprintable() or "\\" in name:
        return "must not hold control characters or backslashes"
    if len(name) > LONGEST or len(parts) > DEEPEST:
        return f"must have at most {LONGEST} characters and {DEEPEST} parts"
    if any(len(os.fsencode(part)) > LONGEST_PART for part in parts):
        return f"must have at most {LONGEST_PART} bytes in each part"
    return ""


def create(root: Path, name: str, *, flags: int = os.O_APPEND) -> int:
    """A descriptor to write that file, which is made anew with its directories.

    Raises ValueError for a bad name, OSError where a link or no directory stands in the way.
    """
    if text := wrong(name):
        raise ValueError(f"{name[:100]!r} {text}")
    directory = _enter(root, name, make=True)
    flags |= os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name.rpartition("/")[2], flags, 0o640, dir_fd=directory)
    finally:
        os.close(directory)


def open_file(root: Path, name: str) -> int | None:
    """A descriptor to read that file; None if there is no regular file of that name inside."""
    if wrong(name):
        return None
    try:
        directory = _enter(root, name)
    except OSError:
        return None
    # Non-blocking: a named pipe would wait for a writer for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        found = os.open(name.rpartition("/")[2], flags, dir_fd=directory)
    except OSError:
        return None
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        return None
    return found


def walk(root: Path, most: int) -> Iterator[tuple[str, int]]:
    """The names and bytes of the regular files inside, sorted by directory, at most so many."""
    count = 0
    for directory, names, files in os.walk(root):
        names.sort()
        if len(Path(directory).relative_to(root).parts) + 2 > DEEPEST:
            names.clear()  # all below would be wrong names
        for file in sorted(files):
            path = Path(directory, file)
            try:
                status = path.lstat()
            except OSError:
                continue
            name = str(path.relative_to(root))
            if not stat.S_ISREG(status.st_mode) or wrong(name):
                continue
            if count >= most:
                return
            count += 1
            yield name, status.st_size


def _enter(root: Path, name: str, *, make: bool = False) -> int:
    """A descriptor of the directory that the file is in."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    inside = os.open(root, flags)
    for part in name.split("/")[:-1]:
        try:
            if make:
                try:
                    os.mkdir(part, 0o750, dir_fd=inside)
                except FileExistsError:
                    pass
            deeper = os.open(part, flags, dir_fd=inside)
        finally:
            os.close(inside)
        inside = deeper
    return inside
