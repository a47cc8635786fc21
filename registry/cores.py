"""The cores of this machine that this process may use, and what each of them has computed."""

from __future__ import annotations

import os
from pathlib import Path

ALLOWED = frozenset(
    os.sched_getaffinity(0)
)  # as it was started; it may be settled on one
STAT = Path("/proc/stat")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def busy_seconds() -> dict[int, float]:
    """What each core has computed since the machine began, with what was taken away from it.

    Raises OSError, ValueError where the kernel does not tell.
    """
    found = {}
    for line in STAT.read_text().splitlines():
        name, *ticks = line.split()
        if name[:3] == "cpu" and name[3:].isdigit():
            user, nice, system, _, _, *rest = map(int, ticks[:8])
            used = user + nice + system + sum(rest)  # interrupts, stolen time
            found[int(name[3:])] = used / os.sysconf("SC_CLK_TCK")
    return found


def count() -> int:
    """How many cores this process may keep busy: those it may run on, within its quota."""
    allowed = max(len(ALLOWED), 1)
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return allowed  # none is set, or this is another kind of control group
