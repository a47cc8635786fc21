"""How long a statement waits for a PostgreSQL that says nothing."""

from __future__ import annotations

import socket
import struct
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout
from psycopg.waiting import Ready

QUIET = 2.0  # seconds without an answer, until the server is asked whether it lives
ANSWERS_WITHIN = 2.5  # seconds to connect, and again to say a word
WAIT_INTERVAL = 0.1  # seconds, psycopg's own
SSL_REQUEST = struct.pack("!II", 8, 80877103)  # answered by one byte before any login

T = TypeVar("T")


class Patient(psycopg.Connection[Any]):
    """Waits for as long as the server lives, however long a statement takes it.

    One that is frozen keeps its connections: its kernel answers for it, so TCP gives none up.
    """

    def wait(
        self,
        gen: PQGen[T],
        interval: float = WAIT_INTERVAL,
        timeout: float | None = None,
    ) -> T:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, QUIET)
        except _WaitTimeout:
            gen = _resumed(gen)
        while lives(self.info):
            try:
                return super().wait(gen, interval, QUIET)
            except _WaitTimeout:
                continue
        self.pgconn.finish()
        raise psycopg.OperationalError("the server gives no sign of life")


def _resumed(gen: PQGen[T]) -> PQGen[T]:
    """For waits again: each begins with None, where what is half sent wants to hear what is ready."""
    try:
        wants = gen.send(Ready.NONE)
        while True:
            wants = gen.send((yield wants) or Ready.NONE)
    except StopIteration as end:
        found: T = end.value
        return found


def lives(server: psycopg.ConnectionInfo) -> bool:
    """Whether it answers a newcomer, be it by a refusal: one that shuts down, or wants TLS at once.

    Not libpq's ping, which holds Python's lock meanwhile.
    """
    try:
        with _reached(server) as link:
            link.sendall(SSL_REQUEST)
            link.recv(1)
    except (TimeoutError, BlockingIOError):  # the latter where a socket's line is full
        return False
    except OSError:
        pass
    return True


def _reached(server: psycopg.ConnectionInfo) -> socket.socket:
    if not server.host.startswith(("/", "@")):
        address = server.hostaddr or server.host, server.port
        return socket.create_connection(address, ANSWERS_WITHIN)
    link = socket.socket(socket.AF_UNIX)
    try:
        link.settimeout(ANSWERS_WITHIN)
        path = f"{server.host}/.s.PGSQL.{server.port}"
        link.connect(path.replace("@", "\0", 1) if path.startswith("@") else path)
    except BaseException:
        link.close()
        raise
    return link
