"""The process that stands by: for each order that comes over its link it forks a hand.

A copy of the worker, or a program: `python -m inference.standby LINK MAIN`, where LINK is the
descriptor of its end and MAIN the dotted path of what a hand does.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import django
from setproctitle import setproctitle

from registry.forks import fork

log = logging.getLogger(__name__)

TITLE = "compass: spare process for batches"
HAND = "inference.hand.work"
LONGEST_ORDER = 64 * 1024  # bytes
TAKEN = b"."  # its answer to an order
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PREPARED = ("numpy", "onnxruntime")  # imported for the first order

Order = Mapping[str, Any]
Main = Callable[[Order, socket.socket], object]


def serve(link: socket.socket, main: str) -> None:
    """Hand out until the worker ends: then its end of the link does."""
    setproctitle(TITLE)
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        words, files, _, _ = socket.recv_fds(link, LONGEST_ORDER, 1)
        if not words or not files:
            return
        with socket.socket(fileno=files[0]) as line:
            try:
                _hand_out(json.loads(words), line, link, _prepared(main))
            except OSError as error:
                log.warning("No hand: %s", error)
        with suppress(OSError):  # the worker ends, or reads none
            link.send(TAKEN, socket.MSG_DONTWAIT)


def stay_shared() -> None:
    """Have no collection write to what this process has now, and its copies share."""
    gc.collect()
    gc.freeze()


def _reap(*_: object) -> None:
    """Hands leave no remains; what they computed counts as the spare's children's."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _prepared(main: str) -> Main:
    """Import once what each hand needs, with no thread of its own."""
    module, _, name = main.rpartition(".")
    wanted = [one for one in (*PREPARED, module) if one not in sys.modules]
    if wanted:
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
        for one in wanted:
            import_module(one)
        stay_shared()
    found: Main = getattr(sys.modules[module], name)
    return found


def _hand_out(
    order: Order, line: socket.socket, link: socket.socket, main: Main
) -> None:
    def work() -> None:
        link.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        setproctitle(f"compass: hand of batch {order.get('task', '')}")
        with suppress(OSError):  # nobody wants it any more
            line.send(str(os.getpid()).encode())
            main(order, line)

    fork(work)


def begin() -> None:
    """Be one as a program. No death signal: it would come when the thread that started it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's, to the whole group
    number, main = sys.argv[1:]
    django.setup()
    with socket.socket(fileno=int(number)) as link:
        serve(link, main)


if __name__ == "__main__":
    begin()
