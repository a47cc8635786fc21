"""A worker's main loop is looked after: it must turn, and once asked to stop it must end.

A connection that stands still within a frame holds the loop, with all heartbeats, until the rest
comes. It is cut off then: Celery connects anew, and what runs here goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.worker.consumer.connection import Connection

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds between two looks
# In looks and not in seconds: a process that was frozen has not stood still.
CUT_AFTER = 6  # without a turn
ENDED_AFTER = 12  # without a turn
LATE_CUT_AFTER = 2  # without a turn, once asked to stop
KILLED_AFTER = 9  # once asked to stop; jobs have 20 s to leave a checkpoint


class Watch:
    """Counts looks at the loop. `end` asks the process to stop, and `kill` does not ask."""

    def __init__(
        self,
        *,
        end: Callable[[], object] = lambda: os.kill(os.getpid(), signal.SIGTERM),
        kill: Callable[[int], object] = os._exit,
    ) -> None:
        self._end, self._kill = end, kill
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._cut: Callable[[], object] | None = None
        self._still, self._leaving, self._is_leaving = 0, 0, False

    def begin(self, cut: Callable[[], object]) -> None:
        """From now on the loop must turn; `cut` breaks its connections off."""
        self._still, self._cut = 0, cut

    def turn(self) -> None:
        self._still = 0

    def pause(self) -> None:
        """Until the next beginning it need not: the broker is away, say."""
        self._cut = None

    def leave(self) -> None:
        """The process was asked to stop."""
        self._is_leaving = True
        self.start()

    def look(self) -> None:
        """Do what is to be done by now."""
        if self._is_leaving:
            self._leaving += 1
            if self._leaving >= KILLED_AFTER:
                log.error("This worker does not end, and is ended by force")
                self._kill(1)
                return
        cut = self._cut
        if cut is None:
            return
        self._still += 1
        if self._still == (LATE_CUT_AFTER if self._is_leaving else CUT_AFTER):
            log.warning("The main loop stands still: the broker is cut off")
            cut()
        elif self._still >= ENDED_AFTER and not self._is_leaving:
            log.error("The main loop stands still: this worker ends")
            self.leave()  # the signal may be heard by nobody
            self._end()

    def start(self) -> None:
        """Look from now on, in a thread of its own."""
        if not self._thread.is_alive():
            self._thread.start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(EVERY):
            try:
                self.look()
            except Exception:
                log.exception("The main loop could not be looked after")


class Turns(bootsteps.StartStopStep):
    """Celery's part: from connecting to disconnecting, its loop says that it turns."""

    requires = (Connection,)

    def start(self, consumer: Any) -> None:
        if consumer.hub is not None:  # brokers without events have no loop that turns
            WATCH.begin(lambda: cut(consumer))

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        hub.call_repeatedly(EVERY / 2, WATCH.turn)

    def stop(self, consumer: Any) -> None:
        WATCH.pause()


def cut(consumer: Any) -> None:
    """Break off the consumer's connections to an AMQP broker, as if the broker had closed them.

    Those to Redis have time-outs of their own.
    """
    dispatcher = getattr(consumer, "event_dispatcher", None)
    for one in (consumer.connection, getattr(dispatcher, "connection", None)):
        for name in ("_connection", "_transport", "sock"):
            one = getattr(one, name, None)
        if one is not None:
            try:
                # Not the method of a TLS socket, which would be torn down under its reader.
                socket.socket.shutdown(one, socket.SHUT_RDWR)
            except OSError:
                continue  # closed meanwhile


WATCH = Watch()  # of this process
