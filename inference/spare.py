"""A process that stands by: hands of a batch are forked from it, in the time of a fork.

Python's lock keeps one process to one core, and a new program needs a second for its imports. A
worker makes its spare while it is small and has one thread, so they share nearly all memory.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db import connections
from setproctitle import setproctitle

from registry.forks import fork

log = logging.getLogger(__name__)

TITLE = "compass: spare process for batches"
LONGEST_ORDER = 64 * 1024  # bytes
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PREPARED = ("numpy", "onnxruntime", "inference.hand")  # imported for the first order

Order = Mapping[str, Any]
Main = Callable[[Order, socket.socket], object]


class Spare:
    """The worker's side of it. `main` is what a hand does with its order and its line.

    `MADE` is the one that this process made at its very beginning, when it had least to share.
    """

    MADE: Spare | None = None

    def __init__(self, link: socket.socket, pid: int) -> None:
        self._link, self.pid, self.is_gone = link, pid, False
        link.setblocking(False)  # one that stands still must hold nobody up

    @classmethod
    def make(cls, main: Main | None = None) -> Spare | None:
        """None where none is wanted, or this process has other threads already."""
        if settings.ENVIRONMENT.batch_processes < 2:
            return None
        if threading.active_count() > 1:
            log.info("No spare process: this one has threads already")
            return None
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connections.close_all()  # a copy of one must not be closed twice
        _stay_shared()

        def serve() -> None:
            mine.close()
            _forget_the_stack()
            _serve(theirs, main or _work)

        try:
            pid = fork(serve)
        except OSError as error:
            log.warning("No spare process: %s", error)
            mine.close()
            return None
        finally:
            theirs.close()
        return cls(mine, pid)

    def hand(self, order: Order) -> socket.socket | None:
        """The line to a new hand, which ends when its process does; None if none can be had."""
        if self.is_gone:
            return None
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            words = json.dumps(order).encode()
            socket.send_fds(self._link, [words], [theirs.fileno()])
        except OSError as error:
            mine.close()
            self._is_lost(error)
            return None
        finally:
            theirs.close()
        return mine

    def _is_lost(self, error: OSError) -> None:
        log.warning("The spare process forks no hand: %s", error)
        if not isinstance(error, BlockingIOError):
            self.is_gone = True  # a worker with threads makes no other
            with suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)


def _forget_the_stack() -> None:
    """It waits for the worker's word on a pipe, which must end when the worker does."""
    descriptor = os.environ.pop("COMPASS_READY_FD", "")
    if descriptor:
        os.close(int(descriptor))


def _serve(link: socket.socket, main: Main) -> None:
    setproctitle(TITLE)
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        words, files, _, _ = socket.recv_fds(link, LONGEST_ORDER, 1)
        if not words or not files:
            return
        with socket.socket(fileno=files[0]) as line:
            try:
                _hand_out(json.loads(words), line, link, main)
            except OSError as error:
                log.warning("No hand: %s", error)


def _reap(*_: object) -> None:
    """Hands leave no remains; what they computed counts as the spare's children's."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _stay_shared() -> None:
    """Have no collection write to what this process has now, and its copies share."""
    gc.collect()
    gc.freeze()


def _hand_out(
    order: Order, line: socket.socket, link: socket.socket, main: Main
) -> None:
    if main is _work:
        _prepare()

    def work() -> None:
        link.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        setproctitle(f"compass: hand of batch {order.get('task', '')}")
        with suppress(OSError):  # nobody wants it any more
            line.send(str(os.getpid()).encode())
            main(order, line)

    fork(work)


def _prepare() -> None:
    """Import once what each hand needs, with no thread of its own."""
    from importlib import import_module

    for name in ONE_THREAD:
        os.environ[name] = "1"
    if PREPARED[-1] not in sys.modules:
        for name in PREPARED:
            import_module(name)
        _stay_shared()


def _work(order: Order, line: socket.socket) -> None:
    from inference import hand

    hand.work(order, line)
