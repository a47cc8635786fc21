"""All processes below one, as /proc shows them at this moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes


def descendants(root: int) -> list[int]:
    """The living processes below `root`; a subreaper has also those that left their parents."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  # ten times a second
        if name.isdigit() and (found := _state_and_parent(int(name))):
            parents.setdefault(found[1], []).append(int(name))
    below, line = [], list(parents.get(root, ()))
    while line:
        pid = line.pop()
        below.append(pid)
        line += parents.get(pid, ())
    return [pid for pid in below if (_state_and_parent(pid) or "Z")[0] not in "ZX"]


def children() -> list[int]:
    """The children of this process, which has one thread; by one short file where there is one."""
    own = os.getpid()
    try:
        words = Path(f"/proc/self/task/{own}/children").read_text().split()
    except OSError:
        return descendants(own)
    return [int(word) for word in words]


def resident(pids: list[int], at_most: int = 0) -> int:
    """Their bytes of memory. Pages they share count once where the plain sum exceeds `at_most`."""
    plain = sum(_resident(pid) for pid in pids)
    if not at_most or plain <= at_most:
        return plain
    return sum(_proportional(pid) for pid in pids)


def listens(pid: int, number: int) -> bool:
    """Whether the process has its own answer to that signal, so that it would not end by it."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except OSError:
        pass
    return False


def number_of(name: str) -> int:
    """A signal by its name, with or without SIG; 0 if there is none."""
    full = name if name.startswith("SIG") else f"SIG{name}"
    found = signal.Signals.__members__.get(full)
    return int(found) if found else 0


def _state_and_parent(pid: int) -> tuple[str, int] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1])


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _resident(pid)
