"""Which CPUs of this host a job is kept on, so that jobs of one worker do not meet."""

from __future__ import annotations

import os
import threading

_lock = threading.Lock()
_taken: dict[str, list[int]] = {}  # CPU numbers by Celery id of the attempt


def take(attempt: str, count: int, *, from_the_end: bool = False) -> list[int]:
    """So many free CPUs, kept until given back; none where fewer are free.

    The worker of another lane takes from the other end, for neither knows of the other.
    """
    with _lock:
        used = {cpu for cpus in _taken.values() for cpu in cpus}
        free = sorted(os.sched_getaffinity(0) - used, reverse=from_the_end)
        if len(free) < count:
            return []
        _taken[attempt] = sorted(free[:count])
        return _taken[attempt]


def give_back(attempt: str) -> None:
    with _lock:
        _taken.pop(attempt, None)
