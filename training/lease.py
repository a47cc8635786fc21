"""How long a job may go on without a word from its supervisor.

A supervisor that is frozen or cut off cannot stop its job, and after 30 s without a beat the task
may run elsewhere. So each beat that the database has taken is told to the job, as a moment of the
host's clock since boot, which all its processes share and no suspend stops; and a job that hears of none ends by itself.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import MappingProxyType

from training.processes import group_members, since_boot

LEASE = (
    18.0  # seconds from the last beat to the wish to stop; 0.6 of what rescue allows
)
GRACE = 5.0  # seconds from there to the end by force, to leave a checkpoint
SILENT = 75  # the exit code of a job that ended so
WORD = b"lease "


class Lease:
    """The job's side. `begun` is the moment of the claim; nothing runs before `wait` returns."""

    def __init__(self, wishes: Connection, begun: float) -> None:
        self._wishes, self._until = wishes, begun + LEASE
        self._heard = threading.Event()

    def wait(self) -> None:
        """Wait until the supervisor has recorded this process, and so may answer for it."""
        self._heard.wait()

    def woke(self, *_: object) -> None:
        """At SIGCONT, before anything else: after too long a sleep nothing more may be done."""
        late = since_boot() - self._until
        if late > GRACE and not self._wishes.poll():
            end_group()

    def listen(
        self,
        stop: Callable[[], object],
        others: Mapping[bytes, Callable[[], object]] = MappingProxyType({}),
    ) -> None:
        """Call `stop` at the supervisor's wish, or when it is silent or gone; then end the job.

        `others` has what to do at its other words; those of a later version do nothing.
        """
        grace_from = self._hear(stop, others)
        stop()
        time.sleep(max(0.0, grace_from + GRACE - since_boot()))
        end_group()

    def _hear(
        self,
        stop: Callable[[], object],
        others: Mapping[bytes, Callable[[], object]] = MappingProxyType({}),
    ) -> float:
        try:
            # What waits in the pipe counts, however late this thread comes to read it.
            while self._wishes.poll(max(0.0, self._until - since_boot())):
                words = self._wishes.recv_bytes()
                if words.startswith(WORD):
                    self._until = float(words.removeprefix(WORD)) + LEASE
                    self._heard.set()
                elif words == b"stop":
                    stop()
                elif words in others:
                    others[words]()
        except (EOFError, OSError):
            return min(self._until, since_boot())
        return self._until


def word(beaten: float) -> bytes:
    """What the supervisor says after a beat that began at that moment."""
    return WORD + repr(beaten).encode()


def end_group() -> None:
    """End the rest of the job's own group, then the job."""
    for member in group_members(os.getpgid(0)):
        if member != os.getpid():
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue
    os._exit(SILENT)
