"""What is wished of a training while it runs."""

from __future__ import annotations

import os
import signal
import threading


class Wishes:
    """The wishes to stop and to leave a checkpoint, which others note and the training looks at."""

    def __init__(self) -> None:
        self._stop, self._save = threading.Event(), threading.Event()
        self.is_signalled = False

    def should_stop(self) -> bool:
        return self._stop.is_set()

    def should_save(self) -> bool:
        """Whether a checkpoint is wished that was not yet begun; true once for each wish."""
        if not self._save.is_set():
            return False
        self._save.clear()
        return True

    def stop(self) -> None:
        self._stop.set()

    def save(self) -> None:
        self._save.set()

    def hear_signal(self) -> None:
        """Take SIGTERM, which all processes of a service may get when it stops, as a wish to stop.

        The second one, or one after the wish, ends the process at once.
        """
        signal.signal(signal.SIGTERM, self._terminate)

    def _terminate(self, number: int, frame: object) -> None:
        if self._stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.is_signalled = True
        self._stop.set()
