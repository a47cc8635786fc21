"""Where the inference workers' lines are, and a connection to one of them that waits."""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import select
import socket
import time
import weakref
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from inference import frames
from inference.frames import Broken, Kind
from registry.models import Service

log = logging.getLogger(__name__)

SERVICE = "inference-line"
CONNECT = 2.0  # seconds
QUIET = 1.0  # seconds without a word until a worker is asked for a sign of life


class Silent(Broken):
    """The worker gives no sign of life."""


@dataclass(frozen=True)
class Place:
    """One worker's line, as it registered it; `incarnation` is of its process.

    `versions` are those that it held at its beat then, `work` the batches that it computed.
    """

    name: str
    incarnation: str
    path: str
    host: str
    port: int
    versions: tuple[int, ...] | None = field(default=None, compare=False)
    work: int = field(default=0, compare=False)
    beat_at: datetime | None = field(default=None, compare=False)

    @property
    def is_here(self) -> bool:
        """Whether it is reached without a network."""
        return bool(self.path) and Path(self.path).exists()


def places() -> list[Place]:
    """The lines of all workers that registered one and are not known to be down."""
    states = (Service.State.UP, Service.State.SUSPECT)
    rows = Service.objects.filter(service_name=SERVICE, state__in=states)
    found = []
    for row in rows.order_by("pk"):
        try:
            found.append(_place(row))
        except (TypeError, ValueError) as error:
            log.warning("The service %s tells no line: %s", row.pk, error)
    return found


def _place(row: Service) -> Place:
    about, versions = row.metadata, row.metadata.get("models")
    return Place(
        str(about.get("node", "")), row.incarnation, str(about.get("socket", "")),
        str(about.get("address", "")), int(about.get("port", 0)),
        None if versions is None else tuple(versions), row.connections, row.beat_at,
    )  # fmt: skip


class Link:
    """A connection to a worker, for one thread at a time; `connect` is in seconds. Raises OSError.

    With `patience`, an answer is waited for only while the worker gives signs of life, one in so
    many seconds after it was asked for one.
    """

    def __init__(self, place: Place, *, connect: float = CONNECT) -> None:
        self.place, self._number = place, 0
        self.patience: float | None = None
        if place.is_here:
            self.socket = socket.socket(socket.AF_UNIX)
        elif place.port:
            family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
            self.socket = socket.socket(family)
        else:
            raise Broken(f"{place.name} listens on its own machine only")
        try:
            self.told: dict[str, Any] = self._greet(connect)
        except BaseException:
            self.socket.close()
            raise
        # Also where its thread ends, or whoever connected was cancelled meanwhile.
        self._close = weakref.finalize(self, self.socket.close)

    def ask(
        self,
        version: int,
        items: bytes,
        seconds: float,
        watch: tuple[int, int] | None = None,
    ) -> frames.Answer:
        """The answer to a list of items. Raises TimeoutError, Silent, and OSError once it is broken."""
        self._number += 1
        number = self._number % 2**32
        milliseconds, end = int(seconds * 1000), time.monotonic() + seconds
        self.socket.settimeout(seconds)
        self.socket.sendall(
            frames.ask(number, version, milliseconds, [items], Kind.CHECKED, watch)
        )
        while True:
            if self.patience is not None:
                self._wait(end, self.patience)
            self.socket.settimeout(max(0.001, end - time.monotonic()))
            kind, answered, content = frames.receive(self.socket)
            if kind is Kind.REPLY and answered == number:
                return frames.read_reply(content)[1][0]

    def _wait(self, end: float, patience: float) -> None:
        """Wait for the next frame until then. Raises Silent, and TimeoutError."""
        waiting = select.poll()
        waiting.register(self.socket, select.POLLIN)
        pinged_at: float | None = None
        while not waiting.poll(1000 * min(QUIET, max(0.0, end - time.monotonic()))):
            now = time.monotonic()
            if now >= end:
                raise TimeoutError("no answer in time")
            if pinged_at is None:
                pinged_at = now
                self.socket.sendall(frames.frame(Kind.PING, 0))
            elif now - pinged_at > patience:
                raise Silent("no sign of life")

    def tell(self, command: dict[str, Any], seconds: float) -> Any:
        """The answer to a command. Raises TimeoutError, and OSError once it is broken."""
        self.socket.settimeout(seconds)
        self.socket.sendall(frames.frame(Kind.TELL, 0, frames.dumps(command)))
        while True:
            kind, _, content = frames.receive(self.socket)
            if kind is Kind.TOLD:
                return json.loads(content)

    def _greet(self, seconds: float) -> Any:
        self.socket.settimeout(seconds)
        if self.place.is_here:
            self.socket.connect(self.place.path)
        else:
            self.socket.connect((self.place.host, self.place.port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            introduce(self.socket, settings.SECRET_KEY)
        kind, _, content = frames.receive(self.socket)
        if kind is not Kind.PONG:
            raise Broken("no greeting")
        return json.loads(content)

    def close(self) -> None:
        self._close()

    def give(self) -> socket.socket:
        """The connection, which is no longer this link's to close."""
        self._close.detach()
        return self.socket


def introduce(link: socket.socket, secret: str) -> None:
    """Show a worker on another host that this side holds the secret, and see that it does."""
    theirs = frames.read(link, frames.CHALLENGE)
    mine = secrets.token_bytes(frames.CHALLENGE)
    link.sendall(frames.sign(secret, theirs) + mine)
    signed = frames.read(link, frames.CHALLENGE)
    if not hmac.compare_digest(signed, frames.sign(secret, b"worker" + mine)):
        raise Broken("a wrong secret")
