"""A process that stands by, as its worker sees it: hands of a batch are forked from it at once.

Python's lock keeps one process to one core, and a new program needs a second for its imports. A
worker makes its spare while it is small and has one thread, so they share nearly all memory.
One that died, or takes no order for long, is made anew when it is wanted: as a program, for the
worker has threads by then.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from django.conf import settings
from django.db import connections

from inference.standby import HAND, TAKEN, Order, serve, stay_shared
from registry.confined import ROOT
from registry.forks import fork

log = logging.getLogger(__name__)

ANEW_AFTER = 60.0  # seconds between two that are made anew
SILENT_AFTER = 30.0  # seconds from an order; the first may have to import everything
ENDS_WITHIN = 1.0  # seconds, once it is killed
READY_FD = "COMPASS_READY_FD"  # the pipe on which the stack waits for the worker's word


class Spare:
    """The worker's side of it. `main` is the dotted path of what a hand does.

    `MADE` is the one that this process made at its very beginning, when it had least to share.
    """

    MADE: Spare | None = None

    def __init__(
        self,
        main: str = HAND,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._main, self._monotonic = main, monotonic
        self._lock = threading.Lock()  # batches ask for hands from threads of their own
        self._link: socket.socket | None = None
        self._wait: Callable[[], object] = lambda: None
        self._next = -math.inf  # when it may be made anew
        self._orders = deque[float]()  # when those were sent that it has not taken
        self.pid = 0

    @classmethod
    def make(cls, main: str = HAND) -> Spare | None:
        """None where none is wanted."""
        if settings.ENVIRONMENT.batch_processes < 2:
            return None
        spare = cls(main)
        if threading.active_count() == 1:
            spare._fork()
        return spare

    def hand(self, order: Order) -> socket.socket | None:
        """The line to a new hand, which ends when its process does; None if none can be had."""
        mine, theirs = _pair()
        with theirs, self._lock:
            if self._has_sent(json.dumps(order).encode(), theirs):
                return mine
        mine.close()
        return None

    def _has_sent(self, words: bytes, line: socket.socket) -> bool:
        while self._link is not None or self._is_made_anew():
            assert self._link is not None
            try:
                if self._is_silent(self._link):
                    log.warning("The spare process %s takes no orders", self.pid)
                    self._forget()
                    continue
                socket.send_fds(self._link, [words], [line.fileno()])
                self._orders.append(self._monotonic())
                return True
            except ConnectionError:
                log.warning("The spare process %s has died", self.pid)
                self._forget()
            except OSError as error:
                log.warning("The spare process forks no hand: %s", error)
                return False
        return False

    def _is_silent(self, link: socket.socket) -> bool:
        """Whether it has long had an order that it does not take."""
        with suppress(BlockingIOError):
            while self._orders and link.recv(len(TAKEN)):
                self._orders.popleft()
        now = self._monotonic()
        return bool(self._orders) and now - self._orders[0] > SILENT_AFTER

    def _fork(self) -> None:
        mine, theirs = _pair()
        connections.close_all()  # a copy of one must not be closed twice
        stay_shared()

        def stand_by() -> None:
            mine.close()
            if descriptor := os.environ.pop(READY_FD, ""):
                os.close(int(descriptor))  # it must end when the worker does
            serve(theirs, self._main)

        with theirs:
            try:
                pid = fork(stand_by)
            except OSError as error:
                log.warning("No spare process: %s", error)
                mine.close()
                return
        self._keep(mine, pid, lambda: os.waitpid(pid, 0))

    def _is_made_anew(self) -> bool:
        now = self._monotonic()
        if now < self._next:
            return False
        self._next = now + ANEW_AFTER
        mine, theirs = _pair()
        command = [sys.executable, "-m", "inference.standby"]
        variables = {name: os.environ[name] for name in os.environ if name != READY_FD}
        with theirs:
            try:
                child = subprocess.Popen(  # noqa: S603
                    [*command, str(theirs.fileno()), self._main],
                    cwd=ROOT,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            except OSError as error:
                log.warning("No spare process: %s", error)
                mine.close()
                return False
        self._keep(mine, child.pid, child.wait)
        log.info("The spare process %s begins", self.pid)
        return True

    def _keep(self, link: socket.socket, pid: int, wait: Callable[[], object]) -> None:
        link.setblocking(False)  # one that stands still must hold nobody up
        self._link, self.pid, self._wait = link, pid, wait

    def _forget(self) -> None:
        """Leave no remains of it, its hands included."""
        assert self._link is not None
        self._link.close()
        self._link = None
        self._orders.clear()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        # One that stands still in the kernel must hold nobody up.
        reaper = threading.Thread(target=_reap, args=(self._wait,), daemon=True)
        reaper.start()
        reaper.join(ENDS_WITHIN)


def _reap(wait: Callable[[], object]) -> None:
    with suppress(ChildProcessError):
        wait()


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
