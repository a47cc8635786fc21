"""Passes of one process carried out by another of this machine, so that they hold up no answers.

The web process asks the control worker beside it. Where that one is away or stands still, the
asking process does it itself.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import connection

from registry.dispatcher import Outcome, one_pass

log = logging.getLogger(__name__)

PATIENCE = 1.0  # seconds for another's pass; then one does it oneself
SHUN = 5.0  # seconds before one that stood still is asked again
BIND_AGAIN = 1.0  # seconds, while the process before this one still ends
ANSWER = struct.Struct("=I?")  # how many were placed, and whether more may fit
CREDENTIALS = struct.Struct("=iII")  # pid, uid, gid


def address() -> str:
    """An abstract socket of this machine, one for each installation; it ends with its process."""
    parts = [str(settings.DATA_DIR), str(settings.DATABASES["default"]["NAME"])]
    return "\0compass-passes-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Server(threading.Thread):
    """Does the passes that other processes of this user ask for, one at a time."""

    def __init__(self, run: Callable[[], Outcome] = one_pass) -> None:
        super().__init__(name="passes", daemon=True)
        self._run = run
        self.ready = threading.Event()

    def run(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
            self._bind(server)
            while True:
                link, _ = server.accept()
                with link:
                    self._serve(link)

    def _bind(self, server: socket.socket) -> None:
        while not self.ready.is_set():
            try:
                server.bind(address())
                server.listen()
                self.ready.set()
            except OSError:
                time.sleep(BIND_AGAIN)

    def _serve(self, link: socket.socket) -> None:
        if not _is_of_this_user(link):
            return
        try:
            outcome = self._run()
        except Exception as error:
            log.warning("Who asked for this pass does it itself: %s", error)
            connection.close()
            return
        try:
            link.sendall(ANSWER.pack(outcome.placed, outcome.more))
        except OSError:
            return  # who asked did not wait


class Elsewhere:
    """A pass by the server of this machine, else by this process."""

    def __init__(
        self,
        own: Callable[[], Outcome] = one_pass,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
    ) -> None:
        self._own, self._clock, self._patience = own, clock, patience
        self._not_before = 0.0

    def __call__(self) -> Outcome:
        if self._clock() >= self._not_before:
            try:
                return self._ask()
            except TimeoutError:
                self._not_before = self._clock() + SHUN
            except OSError:
                pass  # nobody is there
        return self._own()

    def _ask(self) -> Outcome:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.settimeout(self._patience)
            link.connect(address())
            if not _is_of_this_user(link):
                raise ConnectionRefusedError
            answer = link.recv(ANSWER.size)
        if len(answer) != ANSWER.size:
            raise ConnectionAbortedError
        return Outcome(*ANSWER.unpack(answer))


def _is_of_this_user(link: socket.socket) -> bool:
    told = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return int(CREDENTIALS.unpack(told)[1]) == os.geteuid()
