"""The one-machine stack: starts broker, web, workers and beat, and keeps them alive.

Single-threaded on purpose: children die with the thread that started them, and a fork with
threads about may hang. It waits for signals, so an idle stack costs nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from compass import embedded
from compass.child import adopt_orphans
from compass.env import Environment
from compass.installation import Credentials, prepare, write_whole
from compass.lock import DirectoryLock
from compass.plan import LOOPBACK, Plan, missing, warm_up
from compass.port import ReservedPort, inner_port
from compass.process import Phase, Process

STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
TICK = 0.05  # seconds between looks while something is starting
REST = 10.0  # seconds between looks while all is well
TOLD_EVERY = 10.0  # seconds between words on what is not ready yet
PATIENCE = {
    "beat": 5.0,
    "web": 8.0,
    "front": 8.0,
    "broker": 8.0,
}  # seconds from SIGTERM to SIGKILL
WORKER_PATIENCE = 20.0  # seconds: jobs write a checkpoint
ORPHAN_PATIENCE = 5.0  # seconds that a job may take to see that its supervisor is gone


class Stopped(Exception):
    """A signal asked the stack to stop."""


class Stack:
    """All processes of one machine. `say` is told each piece of news, in one line."""

    def __init__(
        self,
        environment: Environment,
        *,
        say: Callable[[str], None],
        prepare: Callable[[Path], Credentials | None] = prepare,
    ) -> None:
        self.environment, self.say, self.prepare = environment, say, prepare
        self.lock = DirectoryLock(environment.data_dir)
        self.stages: list[list[Process]] = []
        self.port: ReservedPort | None = None
        self.inner_port: ReservedPort | None = None
        self.address = environment.data_dir / "address"
        self.is_ready = False
        self.told = time.monotonic()

    def run(self) -> None:
        """Run until a signal asks to stop. Raises lock.Taken and port.NoPort."""
        began = time.monotonic()
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {*STOP, signal.SIGCHLD})
        self.lock.take()
        adopt_orphans()
        try:
            self._start()
            self.say(
                f"Compass is ready after {time.monotonic() - began:.1f} s: {self._url}\n"
                f"  API pages {self._url}/api/docs, admin {self._url}/admin/,"
                f" logs {self.environment.data_dir / 'logs'}\n"
                "  Ctrl-C stops it."
            )
            self._supervise(lambda: False)
        except Stopped as reason:
            self.say(f"{reason}: stopping.")
        finally:
            self._stop()
            self.lock.release()
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    @property
    def processes(self) -> list[Process]:
        return [process for stage in self.stages for process in stage]

    @property
    def _url(self) -> str:
        assert self.port is not None
        return self.port.url

    def _start(self) -> None:
        environment = self.environment
        self.address.unlink(missing_ok=True)
        plan = Plan(environment, held=self.lock.descriptor)
        self.port = ReservedPort(environment.host, environment.port)
        if self.port.number != environment.port:
            self.say(f"Port {environment.port} is taken; using {self.port.number}.")
        if environment.embedded_broker:
            embedded.remove_forgotten_sockets()
            self._start_stage([plan.broker()])
        if credentials := self.prepare(environment.data_dir):
            self._introduce(credentials)
        _heed()
        warm_up()
        self._supervise(self._all_ready)
        self.inner_port = ReservedPort(LOOPBACK, inner_port(self.port.number))
        behind = self.inner_port.number
        front = plan.front(environment.host, self.port.number, behind, self._url)
        self._start_stage([plan.web(behind)])
        self._start_stage([front])
        self._start_stage(plan.workers())
        self._start_stage([plan.beat()])
        self._supervise(self._all_ready)
        self._supervise(self._is_healthy)
        write_whole(self.address, self._url)
        self.is_ready = True

    def _start_stage(self, processes: list[Process]) -> None:
        _heed()
        self.stages.append(processes)
        for process in processes:
            process.start()

    def _introduce(self, credentials: Credentials) -> None:
        self.say(
            "A new installation. Shown this once:\n"
            f"  user {credentials.user}, password {credentials.password}\n"
            f"  key {credentials.key} (kept in {self.environment.data_dir / 'key'})"
        )

    def _all_ready(self) -> bool:
        return all(process.phase is Phase.READY for process in self.processes)

    def _is_healthy(self) -> bool:
        wanting = missing(self._url)
        if wanting and time.monotonic() > self.told + TOLD_EVERY:
            self.told = time.monotonic()
            self.say(f"Not ready yet: {'; '.join(wanting)}")
        return not wanting

    def _supervise(self, done: Callable[[], bool]) -> None:
        """Look after all processes until it is done. Raises Stopped."""
        while True:
            for process in self.processes:
                if news := process.look():
                    self.say(news)
            self._reap_orphans()
            if done():
                return
            calm = self.is_ready and self._all_ready()
            if number := wait_for_signal(REST if calm else TICK):
                raise Stopped(number.name)

    def _reap_orphans(self) -> None:
        ours = {process.pid for process in self.processes}
        while (dead := _next_dead()) and dead not in ours:
            os.waitpid(dead, 0)

    def _stop(self) -> None:
        """End everything in reverse order, in bounded time; a second signal hurries."""
        try:
            self.address.unlink(missing_ok=True)
        except OSError:
            pass  # a directory gone read-only must not keep the processes alive
        hurry = False
        for stage in reversed(self.stages):
            asked = time.monotonic()
            for process in stage:
                process.ask_to_stop()
            while left := [process for process in stage if not process.has_ended()]:
                late = time.monotonic() - asked
                for process in left:
                    if hurry or late > PATIENCE.get(process.name, WORKER_PATIENCE):
                        process.kill()
                hurry = wait_for_signal(TICK) is not None or hurry
        self._end_orphans()
        if self.environment.embedded_broker:
            embedded.remove_socket(self.environment.data_dir)
        self._remove_lines()
        for port in (self.port, self.inner_port):
            if port is not None:
                port.release()
        self.say("Stopped; no process is left.")

    def _remove_lines(self) -> None:
        """The sockets of inference workers that were killed."""
        lines = self.environment.data_dir / "lines"
        node = self.environment.node_name
        for pattern in (f"*@{node}.sock", f"*@{node}.[0-9]*.sock"):
            for path in lines.glob(pattern):
                try:
                    path.unlink(missing_ok=True)
                except OSError:
                    continue  # a directory gone read-only

    def _end_orphans(self) -> None:
        """Give jobs whose supervisor is gone a moment, then kill what is left."""
        deadline = time.monotonic() + ORPHAN_PATIENCE
        while children := psutil.Process().children(recursive=True):
            if time.monotonic() > deadline:
                for child in children:
                    try:
                        child.kill()
                    except psutil.NoSuchProcess:
                        continue
            wait_for_signal(TICK)
            self._reap_orphans()


def wait_for_signal(seconds: float) -> signal.Signals | None:
    """Wait for a signal; one that asks to stop, else None. The signals are masked."""
    got = signal.sigtimedwait({*STOP, signal.SIGCHLD}, seconds)
    # CPython gives number 0 when the time is up after a SIGSTOP and a SIGCONT.
    if got is None or got.si_signo not in STOP:
        return None
    return signal.Signals(got.si_signo)


def _heed() -> None:
    """Raises Stopped if a signal has asked for it meanwhile."""
    if number := wait_for_signal(0):
        raise Stopped(number.name)


def _next_dead() -> int:
    """The process id of a dead child that is not reaped yet, 0 if there is none."""
    try:
        seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return seen.si_pid if seen else 0
