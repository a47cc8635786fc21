"""A fair turn to write: first come, first served within a process and between processes.

SQLite lets one write at a time, and whoever finds it busy sleeps and tries again, for longer
each time and in no order. The turn is a courtesy before that: SQLite's own lock still
decides, so who gets no turn in time goes on without one and nothing is wrong.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections import deque
from functools import lru_cache

PATIENCE = 5.0  # seconds to wait for a turn, then one goes without
ONCE_IN_VAIN = 0.05  # seconds, after a wait in vain: who holds it may be frozen
POLL = 0.0005  # seconds between looks at the other processes' locks
GATE, FLOOR = 0, 1  # bytes of the file: who is next, and whose turn it is


class Turn:
    """The turn of one database file. The locks are this process's and die with it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._patience = PATIENCE
        self._guard = threading.Lock()
        self._line: deque[threading.Lock] = deque()
        self._is_taken = False

    def take(self) -> bool:
        """Wait for the turn; False if it did not come in time, or there is no file for it."""
        deadline = time.monotonic() + self._patience
        if not self._stand_in_line(deadline):
            return False
        if self._lock_out_others(deadline):
            self._patience = PATIENCE
            return True
        self._patience = ONCE_IN_VAIN
        self._call_next()
        return False

    def give_back(self) -> None:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, FLOOR)
        except OSError:
            pass  # a file system that lost its locks; SQLite will tell
        self._call_next()

    def _stand_in_line(self, deadline: float) -> bool:
        with self._guard:
            if not self._is_taken:
                self._is_taken = True
                return True
            place = threading.Lock()
            place.acquire()
            self._line.append(place)
        if place.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            return True
        with self._guard:
            if place in self._line:
                self._line.remove(place)
                return False
        return True  # called at the last moment

    def _call_next(self) -> None:
        with self._guard:
            if self._line:
                self._line.popleft().release()
            else:
                self._is_taken = False

    def _lock_out_others(self, deadline: float) -> bool:
        try:
            if self._descriptor < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)
            # Who holds the gate is next: a process that writes without a pause
            # cannot slip in again before it.
            if not self._lock(GATE, deadline):
                return False
            try:
                return self._lock(FLOOR, deadline)
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, GATE)
        except OSError:
            return False

    def _lock(self, place: int, deadline: float) -> bool:
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):
                if time.monotonic() > deadline:
                    return False
                time.sleep(POLL)
            else:
                return True


_turns: dict[str, Turn] = {}


def turn_of(database: str) -> Turn:
    """The one turn of that database file in this process."""
    # One per file: closing any descriptor of it would drop the locks of all.
    path = _real(database) + "-turn"
    return _turns.get(path) or _turns.setdefault(path, Turn(path))


_real = lru_cache(64)(os.path.realpath)


# A forked child begins anew: its parent's threads and locks are not its own.
os.register_at_fork(after_in_child=_turns.clear)
