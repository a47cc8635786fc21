"""Control groups of one attempt: a limit of memory that the kernel holds, and a kill of all at once.

Version 2 where its memory controller may be used, else version 1, else none; then the watch over
the tree has to do.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from training.processes import start_ticks

PREFIX = "compass-"
MOUNTS = Path("/proc/self/mountinfo")
OWN = Path("/proc/self/cgroup")


class Group:
    """The groups of one attempt below this process's own ones; each part may be missing."""

    def __init__(self, name: str, memory: int) -> None:
        self._memory: Path | None = None  # a directory of either version
        self._all: Path | None = None  # of version 2
        self._made: list[Path] = []
        for version, parent in own_groups():
            directory = parent / f"{PREFIX}{name}"
            try:
                directory.mkdir(exist_ok=True)
            except OSError:
                continue
            self._made.append(directory)
            if version == 2 and (directory / "cgroup.kill").exists():
                self._all = directory
            if memory and self._memory is None and _limit(directory, memory):
                self._memory = directory

    @property
    def holds_memory(self) -> bool:
        return self._memory is not None

    def join(self) -> None:
        """Put the calling process in."""
        for directory in self._made:
            _write(directory / "cgroup.procs", "0")

    def is_out_of_memory(self) -> bool:
        """Whether it came to its limit, so that the kernel killed in it or lets it wait."""
        if self._memory is None:
            return False
        for name in ("memory.events", "memory.oom_control"):
            for line in _read(self._memory / name).splitlines():
                word, _, number = line.partition(" ")
                if word in ("oom_kill", "under_oom") and number != "0":
                    return True
        return False

    def kill(self) -> None:
        """Kill all in it at once, those that fork at this moment too."""
        if self._all is not None:
            _write(self._all / "cgroup.kill", "1")

    def remove(self) -> None:
        for directory in self._made:
            _remove(directory)


def own_groups() -> list[tuple[int, Path]]:
    """The version and directory of the groups that this process is in: 2, and 1 of memory."""
    mounts: dict[int, tuple[str, Path]] = {}
    for line in _read(MOUNTS).splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if kind[:1] == ["cgroup2"]:
            mounts[2] = fields[3], Path(fields[4])
        elif kind[:1] == ["cgroup"] and "memory" in kind[2].split(","):
            mounts[1] = fields[3], Path(fields[4])
    found = []
    for line in _read(OWN).splitlines():
        _, controllers, path = line.split(":", 2)
        version = 2 if not controllers else 1
        if version in mounts and (version == 2 or "memory" in controllers.split(",")):
            root, point = mounts[version]
            inner = path.removeprefix(root if root != "/" else "").lstrip("/")
            found.append((version, point / inner))
    return sorted(found, reverse=True)


def members(name: str) -> list[int]:
    """The living processes in the groups of the attempt of that name, wherever they got to."""
    found: set[int] = set()
    for version, parent in own_groups():
        directory = parent / f"{PREFIX}{name}"
        if version == 2 and directory.exists():
            return _members(directory)
        found.update(_pids(directory))
    return sorted(pid for pid in found if start_ticks(pid) is not None)


def populated(prefix: str) -> list[str]:
    """The names that begin so of groups of version 2 with living processes in them."""
    return [
        directory.name.removeprefix(PREFIX)
        for version, parent in own_groups()
        if version == 2
        for directory in parent.glob(f"{PREFIX}{prefix}*")
        if _is_populated(directory)
    ]


def end(name: str) -> None:
    """Kill all in the groups of that attempt, and remove them; for when its shim is gone."""
    for _, parent in own_groups():
        _end(parent / f"{PREFIX}{name}")


def remove_leftovers(prefix: str) -> None:
    """Kill what is left in groups whose names begin so, and remove them."""
    for _, parent in own_groups():
        for directory in parent.glob(f"{PREFIX}{prefix}*"):
            _end(directory)


def _end(directory: Path) -> None:
    if not directory.exists():
        return
    _write(directory / "cgroup.kill", "1")
    for pid in _pids(directory):  # version 1 has no such file
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    _remove(directory)


def _members(directory: Path) -> list[int]:
    """The processes of a group of version 2; of one that forks all the time, its last number."""
    pids: list[int] = []
    while not pids and _is_populated(directory):
        pids = _pids(directory)
    return pids


def _is_populated(directory: Path) -> bool:
    return "populated 1" in _read(directory / "cgroup.events")


def _pids(directory: Path) -> list[int]:
    return [int(word) for word in _read(directory / "cgroup.procs").split()]


def _limit(directory: Path, memory: int) -> bool:
    """Hold the group to so many bytes; False if it cannot."""
    if (directory / "memory.max").exists():
        _write(directory / "memory.swap.max", "0")
        _write(directory / "memory.oom.group", "1")
        return _write(directory / "memory.max", str(memory))
    if not _write(directory / "memory.limit_in_bytes", str(memory)):
        return False
    _write(directory / "memory.memsw.limit_in_bytes", str(memory))
    # Version 1 would kill one process and let the script go on without it; so it waits.
    _write(directory / "memory.oom_control", "1")
    return True


def _remove(directory: Path) -> None:
    for _ in range(50):  # a killed process leaves its group a moment later
        try:
            return directory.rmdir()
        except FileNotFoundError:
            return None
        except OSError:
            time.sleep(0.01)
    return None


def _write(path: Path, text: str) -> bool:
    try:
        path.write_text(text)
    except OSError:
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
