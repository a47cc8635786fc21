"""Ending connections that stand still within a body, which the server itself never does."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PATIENCE = 20.0  # seconds
LOOK_EVERY = 1.0  # seconds
LAST_SENT, LAST_RECEIVED = 44, 52  # bytes into Linux's struct tcp_info, in milliseconds


@dataclass(eq=False)
class Call:
    """A request that is worked on; times by the monotonic clock.

    `since` is when its work began, or its read while it reads.
    """

    address: str
    since: float
    is_reading: bool = False
    is_cut: bool = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        before, self.since, self.is_reading = self.since, time.monotonic(), True
        _wake.set()
        try:
            yield
        finally:
            self.since, self.is_reading = before, False


_calls: set[Call] = set()
_wake = threading.Event()
_lock = threading.Lock()
_watcher: threading.Thread | None = None


@contextmanager
def call(address: str) -> Iterator[Call]:
    one = Call(address, time.monotonic())
    _calls.add(one)
    try:
        yield one
    finally:
        _calls.discard(one)


def watch() -> None:
    """Look after this process's calls, in a thread that sleeps while no body is read."""
    global _watcher
    with _lock:
        if _watcher is None:
            _watcher = threading.Thread(target=_look, name="idle", daemon=True)
            _watcher.start()


def overdue(calls: Sequence[Call], moment: float) -> dict[str, list[Call]]:
    """By address, the calls whose read stands still.

    None of an address that also waits that long for an answer: one cannot tell its connections apart.
    """
    old = [one for one in calls if moment - one.since >= PATIENCE]
    busy = {one.address for one in old if not one.is_reading}
    found: dict[str, list[Call]] = {}
    for one in old:
        if one.is_reading and one.address not in busy:
            found.setdefault(one.address, []).append(one)
    return found


def cut(address: str) -> int:
    """End what comes in by this address's silent connections; how many there were.

    Only the way in is shut: the answer still gets out.
    """
    found = list(_inet_sockets())
    try:
        ports = {one.getsockname()[1] for one in found if _listens(one)}
        return sum(_shut(one, address, ports) for one in found)
    finally:
        for one in found:
            one.close()


def _look() -> None:
    while True:
        _wake.wait()
        _wake.clear()
        while any(one.is_reading for one in list(_calls)):
            time.sleep(LOOK_EVERY)
            for address, calls in overdue(list(_calls), time.monotonic()).items():
                for one in calls:  # marked first, for the read ends at once
                    one.is_cut = True
                if not cut(address):
                    for one in calls:
                        one.is_cut = False
        time.sleep(LOOK_EVERY)


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _inet_sockets() -> Iterator[socket.socket]:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            one = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue  # no socket, or closed meanwhile
        is_tcp = one.family in (socket.AF_INET, socket.AF_INET6)
        if is_tcp and one.type == socket.SOCK_STREAM:
            yield one
        else:
            one.close()


def _shut(one: socket.socket, address: str, ports: set[int]) -> bool:
    try:
        if one.getpeername()[0] != address or one.getsockname()[1] not in ports:
            return False
        told = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
        received = struct.unpack_from("=I", told, LAST_RECEIVED)[0] / 1000
        sent = struct.unpack_from("=I", told, LAST_SENT)[0] / 1000
        if min(received, sent) < PATIENCE:
            return False
        one.shutdown(socket.SHUT_RD)
    except OSError:
        return False
    return True
