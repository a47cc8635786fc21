"""The worker's side of online predictions: a socket on which batches come in."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError

from inference import frames
from inference.asked import strict_items
from inference.caller import Caller
from inference.frames import Answer, Status
from inference.stop import Stopped
from registry import cores
from registry.errors import Problem

log = logging.getLogger(__name__)

QUICK = 0.002  # seconds of a batch for which no other thread is woken to read on
PATH_LIMIT = 100  # bytes of a socket's path; the kernel takes 107

Predict = Callable[[int, Sequence[Any]], list[dict[str, Any]]]


def at_once() -> int:
    """This worker's share of the cores: more passes than that only take the cache from each other."""
    return max(1, cores.count() // settings.ENVIRONMENT.inference_workers)


class Line:
    """Listens, and answers by `predict(version, items)`; `tell` is what a ping is answered with."""

    def __init__(
        self,
        predict: Predict,
        tell: Callable[[], dict[str, Any]],
        watch: Callable[..., None] = lambda *_: None,
        obey: Callable[[Any], dict[str, Any]] = lambda _: {},
    ) -> None:
        self._predict, self.tell, self.watch = predict, tell, watch
        self.obey = obey
        self.asked_at = 0.0  # when the latest batch came or was answered
        self._listening: list[socket.socket] = []
        self._socket: tuple[Path, tuple[int, int]] | None = None
        self._callers: set[Caller] = set()
        self._is_closed = False
        self._seconds: dict[int, float] = {}  # of work a list lately, by version
        self._passes: dict[int, threading.Semaphore] = {}  # at once, by version

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
        for caller in list(self._callers):
            caller.stop_reading()

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

    def leave(self, caller: Caller) -> None:
        """A connection has ended."""
        self._callers.discard(caller)

    @property
    def outstanding(self) -> int:
        """Batches that are being computed."""
        return sum(caller.working for caller in list(self._callers))

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

        `until` is a moment of the monotonic clock, after which nobody waits. Raises Stopped.
        """
        answers: list[Answer] = [(Status.ODD, b"")] * len(lists)
        asked = [(n, found) for n, one in enumerate(lists) if (found := read(one))]
        if time.monotonic() > until:
            raise Stopped
        if not asked:
            return answers
        try:
            outputs = self._predict(version, [one for _, some in asked for one in some])
            at = 0
            for n, some in asked:
                answers[n] = _outputs(outputs[at : at + len(some)])
                at += len(some)
            _hold_to_a_frame(answers)
        except Stopped:
            raise
        except Exception as error:
            failed = _problem(_why(error, version))
            for n, _ in asked:
                answers[n] = failed
        return answers

    def turn(self, version: int) -> threading.Semaphore:
        """Within it the version is computed, no more often at once than this worker has cores."""
        turn = self._passes.get(version)
        if turn is None:
            turn = self._passes.setdefault(version, threading.Semaphore(at_once()))
        return turn

    def late(self, count: int) -> list[Answer]:
        """What so many lists are answered for which nobody waits any more."""
        late = Problem("timeout", "The deadline has passed.", retry_after=2)
        return [_problem(late)] * count

    def is_quick(self, version: int, count: int) -> bool:
        """Whether so many lists take no longer than waking another thread is worth."""
        seconds = self._seconds.get(version)
        if seconds is None or seconds * count > QUICK:
            return False
        return version in self.tell()["versions"]

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
            caller = Caller(self, link, secret)
            self._callers.add(caller)
            try:
                caller.begin()
            except RuntimeError as error:
                log.warning("A connection has no thread: %s", error)
                self.leave(caller)
                link.close()


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


def _outputs(outputs: list[dict[str, Any]]) -> Answer:
    try:
        return Status.OUTPUTS, frames.dumps(outputs)
    except ValueError:
        log.exception("A model's answer cannot be written as JSON")
        text = "The model's answer cannot be written as JSON."
        return _problem(Problem("internal", text))


def _hold_to_a_frame(answers: list[Answer]) -> None:
    """Leave out the longest, where they are too many bytes for one frame."""
    sizes = [len(content) for _, content in answers]
    total = sum(sizes)
    if total <= frames.MOST_ANSWERS:
        return
    for n in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        if total <= frames.MOST_ANSWERS:
            return
        total -= sizes[n]
        text = f"The answer would have {sizes[n]:,} bytes"
        if sizes[n] > frames.MOST_ANSWERS:
            text += f"; at most {frames.MOST_ANSWERS:,} are given. Ask for fewer items."
            answers[n] = _problem(Problem("too_large", text))
        else:
            text += ", and others that came with it have many too."
            answers[n] = _problem(Problem("busy", text, retry_after=1))


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
