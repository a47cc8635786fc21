"""A small Compass for one test: web, control and worker as forked processes on one database.

Time is the test's own and shared by all of them; messages are lines of a file. So a process may be
ended at any point, and hours pass in a second.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import mmap
import multiprocessing
import os
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery.app.control import Control
from celery.canvas import Signature
from celery.worker.state import revoked
from django.contrib.auth.models import User
from django.db import connections
from rest_framework.test import APIClient

import compass.urls  # noqa: F401  # imported once here, not in each web process

# Jobs are plain forks here. What they would load is loaded before, for another thread of the
# worker may hold the dynamic loader's lock at that moment, and then nobody ever gives it back.
import numpy  # noqa: F401  # isort: skip
import safetensors.numpy  # noqa: F401  # isort: skip
from registry import (
    broker,
    clock,
    crashpoints,
    dispatcher,
    maintenance,
    membership,
    sealing,
)
from registry.deliveries import revocation
from registry.models import Task
from registry.scheduler import dispatch
from tests.conftest import client_of
from training import supervisor
from training.launcher import Launcher
from training.worker import Worker

# Taken before any fixture replaces them.
REAL = {name: getattr(broker, name) for name in ("send", "revoke", "background")}
NUDGE = dispatcher.nudge
QUICK = datetime.timedelta(seconds=0.1)
STEP = 2.0  # seconds of the world's time a turn


class SharedClock:
    """The world's time, in memory that all its processes share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)
        self.set(datetime.datetime(2026, 1, 5, 9, 0, tzinfo=datetime.UTC).timestamp())

    def set(self, moment: float) -> None:
        self._memory[:8] = struct.pack("d", moment)

    def __call__(self) -> datetime.datetime:
        (moment,) = struct.unpack("d", self._memory[:8])
        return datetime.datetime.fromtimestamp(moment, datetime.UTC)

    def forward(self, seconds: float) -> None:
        self.set(self().timestamp() + seconds)


class World:
    """Its processes and what lies between them."""

    def __init__(self, home: Path, owner: User) -> None:
        self.home, self.owner = home, owner
        self.time, self.journal = SharedClock(), home / "journal"
        self.messages, self.once = home / "messages", home / "crashed"
        self.gate = home / "gate"  # while it is there, some trainings do not go on
        self.gate.touch()
        self.point = ""
        self._workers: dict[str, int] = {}
        self._read = 0  # bytes of the messages that control has read

    # Processes

    def do(self, act: Callable[[], object]) -> bool:
        """Run it in a process of its own; False if a crash point ended that."""
        code = os.waitstatus_to_exitcode(os.waitpid(self._fork(act), 0)[1])
        assert code in (0, crashpoints.CODE), f"it ended with {code}"
        return code == 0

    def start_worker(self, name: str = "cpu@one") -> None:
        self._workers[name] = self._fork(lambda: _work(self, name))

    def stop_worker(self, number: int = signal.SIGTERM, name: str = "cpu@one") -> int:
        """Signal the worker and wait for its end; its exit code."""
        pid = self._workers.pop(name)
        os.kill(pid, number)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def look_after_worker(self, name: str = "cpu@one") -> None:
        """Start it again if it died, as the stack's supervisor does."""
        pid, status = os.waitpid(self._workers[name], os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            assert code == crashpoints.CODE, f"the worker ended with {code}"
            self.start_worker(name)

    def close(self) -> None:
        for name in list(self._workers):
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                self.stop_worker(signal.SIGKILL, name)

    def _fork(self, act: Callable[[], object]) -> int:
        connections.close_all()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            self._enter()
            act()
            dispatcher.flush()
            broker.flush()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _enter(self) -> None:
        """What differs here from a real process of the stack."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        crashpoints._armed = crashpoints.armed(self.point, str(self.once))
        clock.now = self.time
        for name, function in REAL.items():
            setattr(broker, name, function)
        dispatcher.nudge = NUDGE
        Signature.apply_async = lambda one, **options: self._post(one, options)
        Control.revoke = lambda _, celery_id: self._write({"revoke": celery_id})
        membership.BEAT_EVERY = QUICK
        supervisor.BEAT_EVERY = supervisor.FLUSH_EVERY = QUICK.total_seconds()

    def _post(self, one: Signature, options: dict[str, Any]) -> None:
        told = {"name": one.task, "args": one.args, "queue": options["queue"]}
        self._write(told)

    def _write(self, told: dict[str, Any]) -> None:
        file = os.open(self.messages, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, f"{json.dumps(told)}\n".encode())
        os.close(file)

    def letters(self, since: int) -> tuple[list[dict[str, Any]], int]:
        """The messages from that byte on, and how many bytes there are."""
        if not self.messages.exists():
            return [], 0
        data = self.messages.read_bytes()[since:]
        return [json.loads(line) for line in data.splitlines()], since + len(data)

    # What processes do

    def ask(self, request: Callable[[APIClient], Any]) -> bool:
        """One request to a web process; True if it was answered well."""

        def web() -> None:
            answer = request(client_of(self.owner))
            assert answer.status_code < 300, answer.content

        return self.do(web)

    def turn(self) -> bool:
        """Two seconds of the control worker: its duties and its messages."""
        self.time.forward(STEP)
        letters, self._read = self.letters(self._read)

        def control() -> None:
            for letter in letters:
                if letter.get("name") == "registry.seal":
                    sealing.seal(*letter["args"])
            maintenance.expire()
            maintenance.rescue()
            dispatch()

        return self.do(control)

    def until(self, done: Callable[[], Any], *, seconds: float = 40) -> None:
        """Take turns, with the worker looked after, until it is done."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, list(
                Task.objects.values("pk", "state", "attempt", "reason", "message")
            )
            for name in list(self._workers):
                self.look_after_worker(name)
            self.turn()
            time.sleep(0.1)  # for the others; a turn is two seconds of their time


def _work(world: World, name: str) -> None:
    """A worker process: it takes its messages until SIGTERM, then stops in good order."""
    # No Event: the handler may come while this thread is inside its lock.
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    worker, read = Worker(name), 0
    # Jobs by a plain fork: no warm process for a job of a moment.
    worker._launcher._context = multiprocessing.get_context("fork")  # type: ignore[assignment]
    Launcher.warm_up = lambda self: None  # type: ignore[method-assign]
    worker.begin()
    while not stopped:
        time.sleep(0.02)
        letters, read = world.letters(read)
        for letter in letters:
            if "revoke" in letter:
                revoked.add(letter["revoke"])
            elif letter["queue"] == name.replace("@", "."):
                pk, attempt = letter["args"]
                args = (pk, attempt, revocation(f"{pk}-{attempt}"))
                threading.Thread(target=_run, args=(worker, *args)).start()
    worker.stop()


def _run(worker: Worker, *args: Any) -> None:
    try:
        worker.run(*args)
    finally:
        connections.close_all()
