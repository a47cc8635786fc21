"""Which CPUs of this host a job is kept on, so that jobs do not meet on one."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from django.conf import settings

IDLE = (3, 4)  # fields of a CPU's line in /proc/stat: idle, and waiting for a disk

_lock = threading.Lock()
_taken: dict[str, list[int]] = {}  # CPU numbers by Celery id of the attempt
_times: dict[int, tuple[int, int]] = {}  # busy and all clock ticks at the last look
_shares: dict[int, float] = {}  # of the time between the last two looks


def look() -> None:
    """See how busy each CPU was since the last look, with whatever runs on this host."""
    for cpu, (busy, total) in _read().items():
        before = _times.get(cpu, (0, 0))
        if spent := total - before[1]:
            _shares[cpu] = (busy - before[0]) / spent
            _times[cpu] = busy, total


def take(attempt: str, count: int, *, from_the_start: bool = False) -> list[int]:
    """So many free CPUs, the least busy first, kept until given back; none where fewer are free.

    Of those alike the last: the first does the kernel's own work as well, which slows a training
    down (`python -m bench.overhead`). The worker of another lane takes from the other end, for
    neither knows of the other. Where a node offers more or fewer CPUs than it sees, its jobs are
    kept on none.
    """
    environment, seen = settings.ENVIRONMENT, os.sched_getaffinity(0)
    if not environment.pin_cpus or environment.cpus != len(seen):
        return []
    with _lock:
        used = {cpu for cpus in _taken.values() for cpu in cpus}
        free = sorted(seen - used, reverse=not from_the_start)
        if len(free) < count:
            return []
        free.sort(key=lambda cpu: round(_shares.get(cpu, 0.0), 1))  # stable
        _taken[attempt] = sorted(free[:count])
        return _taken[attempt]


def give_back(attempt: str) -> None:
    with _lock:
        _taken.pop(attempt, None)


def _read() -> dict[int, tuple[int, int]]:
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit():
            ticks = [int(number) for number in numbers[:8]]
            total = sum(ticks)
            found[int(name[3:])] = total - sum(ticks[field] for field in IDLE), total
    return found
