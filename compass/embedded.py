"""Where the embedded broker keeps its messages and listens."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import time
from pathlib import Path

from compass.env import SOCKETS, socket_path

APPEND_ONLY = "appendonlydir"
ASIDE = "appendonlydir.damaged"
FORGOTTEN_AFTER = 60.0  # seconds; a younger directory may belong to a stack that starts


def private_directory(path: Path) -> None:
    """Make it for its owner alone. Raises PermissionError if it is somebody else's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to somebody else.")


def directory(data_dir: Path) -> Path:
    return data_dir / "broker"


def put_messages_aside(data_dir: Path) -> str:
    """Let the broker begin empty, keeping what it cannot read; a sentence if there was some.

    Nothing is lost by it: the rows are the truth, and dispatch sends again. Raises OSError.
    """
    messages, aside = directory(data_dir) / APPEND_ONLY, directory(data_dir) / ASIDE
    if not messages.exists():
        return ""
    if aside.exists():
        shutil.rmtree(aside)
    messages.replace(aside)
    return f"The broker cannot read its messages; it begins empty (kept: {aside})."


def remove_socket(data_dir: Path) -> None:
    """Remove a socket directory outside the data directory, once the broker has ended."""
    path = socket_path(data_dir)
    if path.parent != directory(data_dir):
        _remove(path)


def remove_forgotten_sockets() -> None:
    """Remove what stacks that were killed left of their socket directories."""
    for path in SOCKETS.glob(f"compass-{os.getuid()}-*"):
        try:
            found = path.lstat()
        except OSError:
            continue
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        is_old = time.time() - found.st_mtime > FORGOTTEN_AFTER
        if is_ours and is_old and not _answers(path / "valkey.sock"):
            _remove(path / "valkey.sock")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            pass  # busy, or not for us: somebody is there
    return True


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        path.parent.rmdir()
    except OSError:
        pass  # gone already, or something else lies there
