"""A mark that a job and all its descendants carry, whatever name or session they take.

It stands in their limit of real-time CPU time (RLIMIT_RTTIME), which fork and exec hand on, and
which neither an emptied environment nor closed files remove. Its least value is 146,000 years.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import time
from pathlib import Path

from training.processes import start_ticks

FLAG = 1 << 62
NODE_BITS = 22
JOB_BITS = 40
ROUNDS = 400
PAUSE = 0.005  # seconds between rounds
CHASES = 50  # a few milliseconds
NEAR = 8  # numbers of processes
QUIET = 3  # rounds without one before it is believed


def of_node(place: str) -> int:
    """The part of the mark that all jobs of one node of one installation share."""
    return FLAG | _bits(place, NODE_BITS) << JOB_BITS


def of_job(place: str, task: int, attempt: int) -> int:
    return of_node(place) | _bits(f"{place} {task}-{attempt}", JOB_BITS)


def put(mark: int) -> None:
    """Mark this process; where a lower limit is set already, that one stays."""
    try:
        resource.setrlimit(resource.RLIMIT_RTTIME, (mark, mark))
    except (OSError, ValueError):
        pass


def carriers(mark: int) -> list[int]:
    """The living processes of that job, or with a node's mark of all its jobs."""
    return [
        int(name)
        for name in os.listdir("/proc")  # noqa: PTH208  # a hundred times a second
        if name.isdigit() and _is_of(int(name), mark) and start_ticks(int(name))
    ]


def of_process(pid: int) -> int:
    """The mark that it carries; 0 if it has none or is gone."""
    limit = _limit(pid)
    return limit if limit >= FLAG else 0


def end(mark: int) -> int:
    """Kill all of them, and wait until the kernel has them gone; how many are left."""
    left: list[int] = []
    quiet = 0
    for _ in range(ROUNDS):
        left = [pid for pid in carriers(mark) if pid != os.getpid()]
        kill(left)
        quiet = 0 if chase(mark) or left else quiet + 1
        if quiet == QUIET:
            return 0
        time.sleep(PAUSE)
    return len(left)


def chase(mark: int) -> int:
    """Kill what forks and ends so fast that a list of processes is old before it is read.

    Each of its lives has the newest number or one close to it. Returns how many it found.
    """
    found = 0
    for _ in range(CHASES):
        newest = int(Path("/proc/loadavg").read_text().split()[-1])
        for pid in range(max(2, newest - NEAR), newest + NEAR):
            if pid != os.getpid() and _is_of(pid, mark) and start_ticks(pid):
                send(pid, signal.SIGKILL)
                found += 1
    return found


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    """Signal the processes and their groups; a group at once, so that no fork escapes."""
    own = os.getpgrp()
    for group in {_group(pid) for pid in pids} - {0, own}:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            continue
    for pid in pids:
        if _group(pid) in (0, own):
            send(pid, number)


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def _is_of(pid: int, mark: int) -> bool:
    shift = 0 if mark & ((1 << JOB_BITS) - 1) else JOB_BITS
    return _limit(pid) >> shift == mark >> shift


def _limit(pid: int) -> int:
    try:
        return resource.prlimit(pid, resource.RLIMIT_RTTIME)[1]
    except (OSError, ValueError):
        return 0


def _bits(text: str, count: int) -> int:
    """A hash of that many bits, never 0."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") % ((1 << count) - 1) + 1
