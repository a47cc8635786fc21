"""Files by content: written aside, fsynced, renamed, and named by a row."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from functools import lru_cache
from pathlib import Path

from django.conf import settings

CHUNK = 1024**2  # bytes


def root() -> Path:
    path: Path = settings.DATA_DIR / "files"
    return path


def aside(suffix: str = "") -> Path:
    """A fresh path in the store's own temporary directory, on the same file system."""
    directory = root() / "aside"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / f"{secrets.token_hex(12)}{suffix}"


def object_path(sha256: str) -> Path:
    return root() / "objects" / sha256[:2] / sha256


def model_path(digest: str) -> Path:
    return root() / "models" / digest


def task_path(task: int) -> Path:
    return root() / "tasks" / str(task)


def publish_file(path: Path, sha256: str) -> Path:
    """Move a whole file, whose digest the caller knows, to its place; the same content stands once."""
    target = object_path(sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    sync(path)
    path.replace(target)
    sync(target.parent)
    return target


def publish_model(directory: Path) -> tuple[str, int]:
    """Move a model directory to its place; its digest and size in bytes."""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    digest = directory_digest(directory)
    size = sum(path.stat().st_size for path in files)
    target = model_path(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in (*files, directory):
        sync(path)
    while not _moved(directory, target):
        try:
            os.utime(
                target
            )  # young again, so that cleaning leaves it until a row names it
        except FileNotFoundError:  # it was cleaned away this moment
            continue
        shutil.rmtree(directory)
        return digest, size
    sync(target.parent)
    return digest, size


def _moved(directory: Path, target: Path) -> bool:
    """Move it there; False if the same stands there already, perhaps since this moment."""
    try:
        directory.replace(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def directory_digest(directory: Path) -> str:
    """SHA-256 over the sorted names and SHA-256 of the files, as `sha256sum` prints them."""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    lines = [f"{file_sha256(path)}  {path.name}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lasting_sha256(path: Path) -> str:
    """The digest of a file that comes with Compass; read again only when it has changed."""
    seen = path.stat()
    return _sha256_seen(path, seen.st_mtime_ns, seen.st_size)


@lru_cache(64)
def _sha256_seen(path: Path, changed: int, size: int) -> str:
    return file_sha256(path)


def sync(path: Path) -> None:
    """See that the file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
