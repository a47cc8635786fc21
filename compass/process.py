"""One process of the one-machine stack: started, probed, restarted, ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from compass.child import fork
from compass.log import open_log, rotate, tail
from compass.ready import READY_FD

FIRST_BACK_OFF = 0.5  # seconds; doubled at each death
LONGEST_BACK_OFF = 30.0  # seconds
GOOD_LIFE = 10.0  # seconds of life after which the back-off begins anew
SOON_AGAIN = (
    3  # deaths of a ready child, one after the other, that lengthen no back-off
)
MENDED_AFTER = 3  # deaths in a row before it was ready


class Phase(Enum):
    """Where one process stands."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"  # died; its back-off runs
    ENDED = "ended"


@dataclass
class Process:
    """A child in a session of its own, which dies with the thread that started it.

    With `main` it is a copy of this process that runs it, else a program. `probe` answers
    whether it is ready; without one, the child says so itself (compass/ready.py).
    `patience` is in seconds: not ready by then, it is killed and started again. `mend` may
    remove what keeps it from getting ready; a sentence if it did.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    directory: Path
    main: Callable[[], object] | None = None
    probe: Callable[[], bool] | None = None
    mend: Callable[[], str] | None = None
    patience: float = 60.0
    held: Sequence[int] = ()
    clock: Callable[[], float] = time.monotonic
    phase: Phase = Phase.ENDED
    pid: int = 0
    began: float = 0.0
    due: float = 0.0
    back_off: float = FIRST_BACK_OFF
    failures: int = 0
    deaths: int = 0  # since its last good life
    _pipe: int = -1

    def start(self) -> None:
        """Start it. The child dies with the calling thread: call from the main one."""
        environment, held = dict(self.environment), list(self.held)
        writer = -1
        if self.probe is None:
            self._pipe, writer = os.pipe()
            os.set_blocking(self._pipe, False)
            environment[READY_FD] = str(writer)
            held.append(writer)
        try:
            with open_log(self.log) as log:
                self.pid = fork(
                    self.command,
                    self.main,
                    log=log.fileno(),
                    environment=environment,
                    directory=self.directory,
                    held=held,
                )
        finally:
            if writer >= 0:
                os.close(writer)
        self.began, self.phase = self.clock(), Phase.STARTING

    def look(self) -> str:
        """See what became of it and act; a line for the terminal if there is news."""
        if self.phase is Phase.WAITING:
            return self._start_again() if self.clock() >= self.due else ""
        if self.phase is Phase.ENDED:
            return ""
        status = self._died()
        if status is not None:
            return self._plan_restart(status)
        self._bound_log()
        if self.phase is Phase.STARTING and self._is_ready():
            self.phase, self.failures = Phase.READY, 0
            self._close_pipe()
            return f"{self.name} is ready (process {self.pid})"
        if self.phase is Phase.STARTING and self.age > self.patience:
            self.kill()
        return ""

    @property
    def age(self) -> float:
        return self.clock() - self.began

    @property
    def lives(self) -> bool:
        return self.phase in (Phase.STARTING, Phase.READY)

    def ask_to_stop(self) -> None:
        """SIGTERM to the leader alone, which ends its own children in good order.

        A copy that is not ready has begun nothing and may not listen yet: it is killed.
        """
        if self.main is not None and self._is_starting():
            self.kill()
        elif self.lives:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if self.lives:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # so young that it leads no group yet
                os.kill(self.pid, signal.SIGKILL)

    def has_ended(self) -> bool:
        """True once the child is dead and reaped; for the time when all is stopped."""
        if self.lives and self._died() is None:
            return False
        self.phase = Phase.ENDED
        return True

    def _is_starting(self) -> bool:
        said_so = self.probe is None and self._pipe >= 0 and self._is_ready()
        return self.phase is Phase.STARTING and not said_so

    def _is_ready(self) -> bool:
        if self.probe is not None:
            return self.probe()
        try:
            return os.read(self._pipe, 1) != b""
        except BlockingIOError:
            return False

    def _died(self) -> int | None:
        """The exit status of a dead child, after the rest of its group was killed."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, self.pid, options) is None:
            return None
        # Before it is reaped: until then nobody else can get its number.
        self.kill()
        _, status = os.waitpid(self.pid, 0)
        self._close_pipe()
        return os.waitstatus_to_exitcode(status)

    def _start_again(self) -> str:
        news = ""
        try:
            if self.mend is not None and self.failures == MENDED_AFTER:
                news = self.mend()
            self.start()
        except OSError as error:  # no process or no disk to be had at the moment
            self.due = self.clock() + LONGEST_BACK_OFF
            return f"{self.name} could not be started: {error}"
        return news

    def _bound_log(self) -> None:
        try:
            rotate(self.log)
        except OSError:
            pass  # no room for the copy: at the next look

    def _plan_restart(self, status: int) -> str:
        last, was_ready = "", self.phase is Phase.READY
        if not was_ready:
            last, self.failures = "\n" + tail(self.log, 5), self.failures + 1
        if self.age >= GOOD_LIFE:
            self.back_off, self.deaths = FIRST_BACK_OFF, 0
        self.deaths += 1
        self.phase, self.due = Phase.WAITING, self.clock() + self.back_off
        text = (
            f"{self.name} {ending(status)}; it starts again in {self.back_off:g} s"
            f" (log: {self.log}){last}"
        )
        if not was_ready or self.deaths > SOON_AGAIN:
            self.back_off = min(2 * self.back_off, LONGEST_BACK_OFF)
        return text

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def ending(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"
