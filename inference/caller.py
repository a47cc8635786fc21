"""One connection to a worker's line, and the threads that take turns at it.

One waits for the next frame while others work, so a batch is read, computed and answered by one
thread, and a model that is loading holds up nobody.
"""

from __future__ import annotations

import hmac
import json
import logging
import math
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

from django.db import connection

from inference import frames
from inference.asked import strict_items
from inference.frames import Broken, Kind
from inference.stop import Stop, Stopped

if TYPE_CHECKING:
    from inference.line import Line

log = logging.getLogger(__name__)

SPARE = 4  # threads of a connection that wait for a turn; more end
HANDSHAKE = 5.0  # seconds
TURN_WITHIN = 0.3  # seconds; a pass that takes longer holds up nobody
# A host that is gone says nothing; its connections end all the same.
ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),  # seconds
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),  # milliseconds
)
AT_ONCE = 1.0  # seconds that a batch taken for a quick one may hold up those behind it


class Caller:
    """One connection, and the threads that take turns at it."""

    def __init__(self, line: Line, link: socket.socket, secret: str | None) -> None:
        self.line, self.link, self.secret = line, link, secret
        self.working = 0
        self._turn, self._writing = threading.Lock(), threading.Lock()
        self._count, self._waiting = threading.Lock(), 0
        self._is_over = self._is_stopping = False
        self._stops: dict[int, Stop] = {}  # of the batches that are being computed

    def begin(self) -> None:
        threading.Thread(target=self._introduce, name="line", daemon=True).start()

    def stop_reading(self) -> None:
        self._is_stopping = True
        try:
            self.link.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def _introduce(self) -> None:
        try:
            if self.secret is not None:
                self.link.settimeout(HANDSHAKE)
                _check(self.link, self.secret)
                self.link.settimeout(None)
                self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for option in ALIVE:
                    self.link.setsockopt(*option)
            self._send(frames.frame(Kind.PONG, 0, frames.dumps(self.line.tell())))
        except OSError as error:
            log.warning("A connection to the line was refused: %s", error)
            self._end()
            return
        self._work()

    def _work(self) -> None:
        try:
            while True:
                with self._count:
                    if self._waiting >= SPARE:
                        return
                    self._waiting += 1
                with self._turn:
                    with self._count:
                        self._waiting -= 1
                    found = self._next()
                    while found is not None and self._is_quick(*found):
                        if not self._answer(*found, within=AT_ONCE):
                            break  # again, while another thread reads
                        found = self._next()
                    if found is None:
                        return
                    with self._count:
                        self.working += 1
                        is_alone = self._waiting == 0
                    if is_alone:
                        self._another()
                try:
                    self._answer(*found)
                finally:
                    with self._count:
                        self.working -= 1
        finally:
            connection.close()
            if self._is_over:
                self._end()

    def _another(self) -> None:
        try:
            threading.Thread(target=self._work, name="line", daemon=True).start()
        except RuntimeError as error:  # this one reads on when it has answered
            log.warning("No thread reads on: %s", error)

    def _next(self) -> tuple[Kind, int, bytes] | None:
        """The next batch; None once the other side left."""
        try:
            while not self._is_over:
                kind, number, content = frames.receive(self.link)
                if kind in (Kind.ASK, Kind.CHECKED, Kind.WATCHED, Kind.TELL):
                    return kind, number, content
                if kind is Kind.PING:
                    told = frames.dumps(self.line.tell())
                    self._send(frames.frame(Kind.PONG, number, told))
                if kind is Kind.DROP and (stop := self._stops.get(number)):
                    stop.now()
        except (OSError, ValueError):
            pass
        self._is_over = True
        if not self._is_stopping:
            for stop in list(self._stops.values()):
                stop.now()
        return None

    def _is_quick(self, kind: Kind, number: int, content: bytes) -> bool:
        if kind is Kind.TELL:
            return False
        at = frames.WATCH.size if kind is Kind.WATCHED else 0
        if len(content) < at + frames.ASK.size:
            return False
        version, _, count = frames.ASK.unpack_from(content, at)
        return self.line.is_quick(version, count)

    def _answer(
        self, kind: Kind, number: int, content: bytes, within: float = math.inf
    ) -> bool:
        """Whether it was answered, or nobody waits for it; it may take so many seconds."""
        if kind is Kind.TELL:
            self._obey(number, content)
            return True
        began = self.line.asked_at = time.monotonic()
        watch = None
        try:
            if kind is Kind.WATCHED:
                watch, kind, content = frames.read_watched(content)
            read = strict_items if kind is Kind.ASK else json.loads
            version, milliseconds, lists = frames.read_ask(content)
            until = began + milliseconds / 1000
            stop = self._stops[number] = Stop(min(until, began + within))
            if self._is_over and not self._is_stopping:  # before it stood there
                stop.now()
            turn = self.line.turn(version)
            has_turn = turn.acquire(timeout=0 if within < math.inf else TURN_WITHIN)
            if not has_turn and within < math.inf:
                return False
            try:
                started = time.monotonic()
                with stop:
                    answers = self.line.answer(version, lists, until, read)
            except Stopped:
                if began + within <= time.monotonic() < until:
                    return False
                answers = self.line.late(len(lists))
            finally:
                if has_turn:
                    turn.release()
            spent = time.monotonic() - started
            self._send(frames.reply(number, spent, answers))
            self.line.note(version, spent / max(1, len(lists)))
            self.line.asked_at = started + spent
            if watch is not None:
                self.line.watch(watch, version, lists, answers, spent)
        except OSError:
            self._is_over = True
        except Exception:
            log.exception("A batch could not be read")
            self._is_over = True
            self.stop_reading()
        finally:
            self._stops.pop(number, None)
        return True

    def _obey(self, number: int, content: bytes) -> None:
        try:
            told = frames.dumps(self.line.obey(json.loads(content)))
            self._send(frames.frame(Kind.TOLD, number, told))
        except OSError:
            self._is_over = True
        except Exception:
            log.exception("A command could not be obeyed")
            self._is_over = True
            self.stop_reading()

    def _send(self, content: bytes) -> None:
        with self._writing:
            self.link.sendall(content)

    def _end(self) -> None:
        if self.working == 0:
            self.line.leave(self)
            self.link.close()


def _check(link: socket.socket, secret: str) -> None:
    """See that the other side holds the secret, and show that this one does. Raises Broken."""
    mine = secrets.token_bytes(frames.CHALLENGE)
    link.sendall(mine)
    found = frames.read(link, 2 * frames.CHALLENGE)
    signed, theirs = found[: frames.CHALLENGE], found[frames.CHALLENGE :]
    if not hmac.compare_digest(signed, frames.sign(secret, mine)):
        raise Broken("a wrong secret")
    link.sendall(frames.sign(secret, b"worker" + theirs))
