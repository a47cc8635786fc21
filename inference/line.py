"""The worker's side of online predictions: a socket on which batches come in.

The threads of one connection take turns: one waits for the next frame while others work, so a
batch is read, computed and answered by one thread, and a model that is loading holds up nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from inference import frames
from inference.asked import strict_items
from inference.frames import Answer, Broken, Kind, Status
from registry.errors import Problem

log = logging.getLogger(__name__)

SPARE = 4  # threads of a connection that wait for a turn; more end
QUICK = 0.002  # seconds of a batch for which no other thread is woken to read on
HANDSHAKE = 5.0  # seconds
PATH_LIMIT = 100  # bytes of a socket's path; the kernel takes 107

Predict = Callable[[int, Sequence[Any]], list[dict[str, Any]]]


class Line:
    """Listens, and answers by `predict(version, items)`; `tell` is what a ping is answered with."""

    def __init__(
        self,
        predict: Predict,
        tell: Callable[[], dict[str, Any]],
        watch: Callable[..., None] = lambda *_: None,
        obey: Callable[[Any], dict[str, Any]] = lambda _: {},
    ) -> None:
        self._predict, self._tell, self.watch = predict, tell, watch
        self.obey = obey
        self.asked_at = 0.0  # when the latest batch came or was answered
        self._listening: list[socket.socket] = []
        self._socket: tuple[Path, tuple[int, int]] | None = None
        self._peers: set[_Peer] = set()
        self._is_closed = False
        self._seconds: dict[int, float] = {}  # of work a list lately, by version

    def open(self, path: Path) -> None:
        """Listen at a socket of this machine; the directory's mode guards it."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        path.chmod(0o600)
        self._socket = path, _identity(path)
        self._listen(listening, secret=None)

    def open_tcp(self, host: str, port: int) -> int:
        """Listen for other hosts, which must hold the installation's secret; the port."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
        self._listen(listening, secret=settings.SECRET_KEY)
        return int(listening.getsockname()[1])

    def close(self) -> None:
        """Take nothing more; what is being computed is still answered."""
        self._is_closed = True
        for listening in self._listening:
            # Closing alone does not wake the thread that waits in accept.
            try:
                listening.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            listening.close()
        self._remove_socket()
        for peer in list(self._peers):
            peer.stop_reading()

    def _remove_socket(self) -> None:
        """Remove the file, unless another life of the worker listens there by now."""
        if self._socket is None:
            return
        path, identity = self._socket
        try:
            if _identity(path) == identity:
                path.unlink()
        except FileNotFoundError:
            pass

    @property
    def outstanding(self) -> int:
        """Batches that are being computed."""
        return sum(peer.working for peer in list(self._peers))

    def is_idle(self, seconds: float) -> bool:
        """Whether no batch is computed, and none came for that long."""
        return not self.outstanding and time.monotonic() - self.asked_at > seconds

    def answer(
        self,
        version: int,
        lists: Sequence[bytes],
        until: float,
        read: Callable[[bytes], list[Any] | None] = strict_items,
    ) -> list[Answer]:
        """One answer for each list of items; no list's trouble touches another.

        `until` is a moment of the monotonic clock, after which nobody waits.
        """
        answers: list[Answer] = [(Status.ODD, b"")] * len(lists)
        asked = [(n, found) for n, one in enumerate(lists) if (found := read(one))]
        if time.monotonic() > until:
            late = Problem("timeout", "The deadline has passed.")
            return [_problem(late)] * len(lists)
        if not asked:
            return answers
        try:
            outputs = self._predict(version, [one for _, some in asked for one in some])
            at = 0
            for n, some in asked:
                answers[n] = _outputs(outputs[at : at + len(some)])
                at += len(some)
        except Exception as error:
            failed = _problem(_why(error, version))
            for n, _ in asked:
                answers[n] = failed
        return answers

    def is_quick(self, version: int, count: int) -> bool:
        """Whether so many lists take no longer than waking another thread is worth."""
        seconds = self._seconds.get(version)
        if seconds is None or seconds * count > QUICK:
            return False
        return version in self._tell()["versions"]

    def note(self, version: int, seconds: float) -> None:
        """Remember what a list took; one that took long counts at once."""
        before = self._seconds.get(version, seconds)
        self._seconds[version] = max(seconds, 0.8 * before + 0.2 * seconds)

    def _listen(self, listening: socket.socket, secret: str | None) -> None:
        listening.listen(64)
        self._listening.append(listening)
        threading.Thread(
            target=self._accept, args=(listening, secret), name="line", daemon=True
        ).start()

    def _accept(self, listening: socket.socket, secret: str | None) -> None:
        while not self._is_closed:
            try:
                link, _ = listening.accept()
            except OSError:
                time.sleep(0.1)  # closed, or no descriptor to be had at the moment
                continue
            peer = _Peer(self, link, secret)
            self._peers.add(peer)
            peer.begin()


class _Peer:
    """One connection, and the threads that take turns at it."""

    def __init__(self, line: Line, link: socket.socket, secret: str | None) -> None:
        self.line, self.link, self.secret = line, link, secret
        self.working = 0
        self._turn, self._writing = threading.Lock(), threading.Lock()
        self._count, self._waiting = threading.Lock(), 0
        self._is_over = False

    def begin(self) -> None:
        threading.Thread(target=self._introduce, name="line", daemon=True).start()

    def stop_reading(self) -> None:
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
            self._send(frames.frame(Kind.PONG, 0, frames.dumps(self.line._tell())))
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
                        self._answer(*found)
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
        threading.Thread(target=self._work, name="line", daemon=True).start()

    def _next(self) -> tuple[Kind, int, bytes] | None:
        """The next batch; None once the other side left."""
        try:
            while not self._is_over:
                kind, number, content = frames.receive(self.link)
                if kind in (Kind.ASK, Kind.CHECKED, Kind.WATCHED, Kind.TELL):
                    return kind, number, content
                if kind is Kind.PING:
                    told = frames.dumps(self.line._tell())
                    self._send(frames.frame(Kind.PONG, number, told))
        except (OSError, ValueError):
            pass
        self._is_over = True
        return None

    def _is_quick(self, kind: Kind, number: int, content: bytes) -> bool:
        if kind is Kind.TELL:
            return False
        at = frames.WATCH.size if kind is Kind.WATCHED else 0
        if len(content) < at + frames.ASK.size:
            return False
        version, _, count = frames.ASK.unpack_from(content, at)
        return self.line.is_quick(version, count)

    def _answer(self, kind: Kind, number: int, content: bytes) -> None:
        if kind is Kind.TELL:
            self._obey(number, content)
            return
        began = self.line.asked_at = time.monotonic()
        watch = None
        try:
            if kind is Kind.WATCHED:
                watch, kind, content = frames.read_watched(content)
            read = strict_items if kind is Kind.ASK else json.loads
            version, milliseconds, lists = frames.read_ask(content)
            until = began + milliseconds / 1000
            answers = self.line.answer(version, lists, until, read)
            spent = time.monotonic() - began
            self._send(frames.reply(number, spent, answers))
            self.line.note(version, spent / max(1, len(lists)))
            self.line.asked_at = began + spent
            if watch is not None:
                self.line.watch(watch, version, lists, answers, spent)
        except OSError:
            self._is_over = True
        except Exception:
            log.exception("A batch could not be read")
            self._is_over = True
            self.stop_reading()

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
            self.line._peers.discard(self)
            self.link.close()


def _identity(path: Path) -> tuple[int, int]:
    """Which file stands there; an inode alone may be given out again."""
    found = path.stat()
    return found.st_ino, found.st_ctime_ns


def socket_path(name: str) -> Path:
    """Where the worker of that name listens; beside the data unless that path is too long."""
    path: Path = settings.DATA_DIR / "lines" / f"{name}.sock"
    if len(str(path).encode()) <= PATH_LIMIT:
        return path
    short = hashlib.sha256(str(path).encode()).hexdigest()[:24]
    return Path("/tmp") / f"compass-lines-{os.getuid()}" / f"{short}.sock"  # noqa: S108


def _check(link: socket.socket, secret: str) -> None:
    """See that the other side holds the secret, and show that this one does. Raises Broken."""
    mine = secrets.token_bytes(frames.CHALLENGE)
    link.sendall(mine)
    found = frames.read(link, 2 * frames.CHALLENGE)
    signed, theirs = found[: frames.CHALLENGE], found[frames.CHALLENGE :]
    if not hmac.compare_digest(signed, frames.sign(secret, mine)):
        raise Broken("a wrong secret")
    link.sendall(frames.sign(secret, b"worker" + theirs))


def _outputs(outputs: list[dict[str, Any]]) -> Answer:
    try:
        return Status.OUTPUTS, frames.dumps(outputs)
    except ValueError:
        log.exception("A model's answer cannot be written as JSON")
        text = "The model's answer cannot be written as JSON."
        return _problem(Problem("internal", text))


def _problem(problem: Problem) -> Answer:
    told = {**problem.as_dict(), "retry_after": problem.retry_after}
    return Status.PROBLEM, frames.dumps(told)


def _why(error: Exception, version: int) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, OperationalError | InterfaceError):
        text = "The database does not answer."
        return Problem("database_unavailable", text, retry_after=2)
    log.error("A prediction by version %s failed", version, exc_info=error)
    text = "The prediction failed; the worker's log says why."
    return Problem("internal", text)
