"""Linux processes by an identity that a reused pid or a jumping clock cannot fake."""

from __future__ import annotations

import ctypes
import os
import time
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

HOST_PIDS = "pid:[4026531836]"  # the first name space of pids, the same on every host


@cache
def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def since_boot() -> float:
    """Seconds on a clock that all processes of the host share and that no sleep of it stops."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@cache
def boot_id() -> str:
    """The kernel's name for this boot of this host; a container's pids are its own."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    pids = str(Path("/proc/self/ns/pid").readlink())
    return boot if pids == HOST_PIDS else str(uuid.uuid5(uuid.UUID(boot), pids))


def start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None if there is none, or a zombie."""
    try:
        # The name, in brackets, may itself hold blanks and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int, ticks: int, boot: str) -> bool:
    """Whether that very process still runs here."""
    return boot == boot_id() and start_ticks(pid) == ticks


def signal_group(group: int, number: int) -> bool:
    """Signal every process of the group; False if none is left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def group_members(group: int) -> list[int]:
    """The living processes of the group, zombies left out."""
    return [pid for pid, _ in _members(group)]


def cpu_ticks(group: int) -> int:
    """The CPU time of the group's living processes so far, in clock ticks."""
    return sum(int(fields[11]) + int(fields[12]) for _, fields in _members(group))


def _members(group: int) -> Iterator[tuple[int, list[str]]]:
    """The group's living processes, with what their stat says after the name."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            yield int(entry.name), fields
