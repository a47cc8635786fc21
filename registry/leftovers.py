"""Files of the store that no row names: what a crash, a cut or a deletion left."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator
from pathlib import Path

from registry import clock, store, trees, uploads
from registry.models import Attempt, ModelVersion, Task, Upload

LONGEST = 4096  # bytes of a path, with the NUL at its end
OLD = datetime.timedelta(hours=1)  # younger files may be about to get their row
ASIDE = re.compile(r"[0-9a-f]{24}([._-][\w.-]*)?\Z")
DIGEST = re.compile(r"[0-9a-f]{64}\Z")
OBJECT = re.compile(r"[0-9a-f]{64}(\.files)?\Z")
NUMBER = re.compile(r"[1-9][0-9]{0,17}\Z")
ATTEMPT = re.compile(r"attempt-[1-9][0-9]{0,8}\Z")


def remove() -> dict[str, int]:
    """Remove them; the number of entries by section, and the bytes that were freed.

    Only names that the store itself gives are looked at, and no symbolic link is followed.
    """
    counts = {
        "aside": 0,
        "objects": 0,
        "models": 0,
        "engines": 0,
        "tasks": 0,
        "bytes": 0,
    }
    root = store.root()
    sections = (
        ("aside", _entries(root / "aside", ASIDE), _never, _remove),
        ("objects", _objects(root / "objects"), _is_object_named, _remove_object),
        ("models", _entries(root / "models", DIGEST), _is_model_named, _remove),
        ("engines", _entries(root / "engines", DIGEST), _is_model_named, _remove),
        ("tasks", _entries(root / "tasks", NUMBER), _is_task_there, _remove),
        ("tasks", _attempts(root / "tasks"), _is_attempt_kept, _remove),
    )
    for section, entries, is_named, take in sections:
        for path in entries:
            if is_named(path):
                continue
            size = _size_if_old(path)
            if size is not None:
                take(path)
                counts[section] += 1
                counts["bytes"] += size
    return counts


def _never(path: Path) -> bool:
    return False


def _is_object_named(path: Path) -> bool:
    sha256 = path.name.removesuffix(".files")
    return Upload.objects.naming_objects().filter(sha256=sha256).exists()


def _is_model_named(path: Path) -> bool:
    return ModelVersion.objects.filter(digest=path.name).exists()


def _is_task_there(path: Path) -> bool:
    return Task.objects.filter(pk=int(path.name)).exists()


def _is_attempt_kept(path: Path) -> bool:
    """What an attempt worked in goes with it, and so it does where its worker died."""
    number = int(path.name.removeprefix("attempt-"))
    rows = Attempt.objects.filter(task=int(path.parent.name), number=number)
    return not rows.filter(finished_at__isnull=False).exists()


def _remove(path: Path) -> None:
    trees.remove(path) if path.is_dir() else path.unlink(missing_ok=True)


def _remove_object(path: Path) -> None:
    uploads.forget(path.name.removesuffix(".files"))


def _objects(directory: Path) -> Iterator[Path]:
    for shelf in _entries(directory, re.compile(r"[0-9a-f]{2}\Z")):
        yield from _entries(shelf, OBJECT)


def _attempts(directory: Path) -> Iterator[Path]:
    """What attempts worked in, and did not come to remove."""
    for task in _entries(directory, NUMBER):
        yield from _entries(task, ATTEMPT)


def _entries(directory: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    """Files and directories of such names; symbolic links are passed over."""
    if directory.is_symlink() or not directory.is_dir():
        return
    for entry in sorted(directory.iterdir()):
        if pattern.match(entry.name) and not entry.is_symlink():
            yield entry


def _size_if_old(path: Path) -> int | None:
    """Its bytes if nothing in it was written for an hour, else None."""
    young = (clock.now() - OLD).timestamp()
    size = 0
    for one in _walk(path):
        try:
            stat = one.lstat()
        except FileNotFoundError:  # somebody else is at it
            return None
        if stat.st_mtime > young:
            return None
        size += stat.st_size
    return size


def _walk(path: Path) -> Iterator[Path]:
    """It and what is in it, as far down as paths reach; os.walk would end at Python's stack."""
    yield path
    line = [path] if path.is_dir() and not path.is_symlink() else []
    while line:
        try:
            with os.scandir(line.pop()) as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            if len(os.fsencode(entry.path)) < LONGEST:
                yield Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    line.append(Path(entry.path))
