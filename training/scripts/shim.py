"""What runs in a script's job process: it starts the script, holds it to its limits and ends it.

It has one thread, and knows nothing of Django, the database or the broker. Every process that the
script begins stays below it, whatever session it makes for itself, so none is left behind.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from registry.forks import PR_SET_PDEATHSIG
from training import marks
from training.lease import GRACE, LEASE, WORD
from training.processes import libc, since_boot
from training.scripts import environment, inputs, program, tree
from training.scripts.groups import Group
from training.scripts.limits import Limits, Verdict
from training.scripts.output import Output

TICK = 0.1  # seconds between looks at memory and disk
PATIENCE = 5.0  # seconds of killing
CHASES = 200  # a few milliseconds
PAUSE = 0.002  # seconds between rounds


def main(spec: Mapping[str, Any], reports: Connection, wishes: Connection) -> None:
    """Run one attempt of a script, and tell the supervisor how it went."""
    code = 1
    try:
        code = Shim(spec, reports, wishes).run()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Shim:
    """Between the supervisor and one run of a script."""

    def __init__(
        self, spec: Mapping[str, Any], reports: Connection, wishes: Connection
    ) -> None:
        self._spec, self._reports, self._wishes = spec, reports, wishes
        self._launcher = os.getppid()
        self._program = 0
        self._status: int | None = None  # of the script, as wait gives it
        self._verdict: Verdict | None = None
        self._was_asked = self._is_orphan = self._is_killed = False
        self._until = (
            spec["leased"] + LEASE
        )  # seconds since boot; see training/lease.py
        self._is_recorded = self._is_silent = False

    def run(self) -> int:
        own = self._enter()
        self._group: Group | None = None
        try:
            if self._spec["groups"]:
                self._group = Group(f"{self._spec['mark']:x}", self._spec["memory"])
            work = Path(self._spec["work"])
            placed = inputs.place(work, self._spec["inputs"], self._should_stop)
            self._output = Output(self._spec)
            self._limits = Limits(self._spec, self._group)
            while not (self._should_stop() or self._is_recorded):
                self._wishes.poll(TICK)
            if not self._should_stop():
                self._program = program.start(
                    self._spec, own, self._output, self._group
                )
                self._watch()
            is_cut_off = self._is_orphan and self._status is None
            left = self._end_all()
            self._output.drain()
            inputs.remove_unchanged(work, placed)
            if is_cut_off or self._is_silent:
                self._report({"event": "stopped"})
            else:
                self._conclude(left)
            self._output.close()
        except (OSError, ValueError) as error:
            is_full = getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT)
            reason = "disk_full" if is_full else "error"
            text = f"The script could not be started: {error}."
            self._report({"event": "failed", "reason": reason, "message": text})
        finally:
            if self._group is not None:
                self._group.remove()
        return int(self._is_orphan)

    def _enter(self) -> dict[str, str]:
        """Leave the launcher behind: own session, log and environment; the script's one."""
        os.setsid()
        marks.put(self._spec["mark"])
        program.adopt_orphans()
        own = environment.build(self._spec, os.environ)
        environment.forget_own()
        log = os.open(self._spec["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for target in (1, 2):
            os.dup2(log, target)
        os.close(log)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False, errors="replace")
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="replace")
        self._woken, waking = os.pipe()
        for end in (self._woken, waking):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: self._terminate())
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        # The death of the launcher must not be ours: what the script began is still to end.
        libc().prctl(PR_SET_PDEATHSIG, signal.SIGHUP)
        return own

    def _watch(self) -> None:
        """Move its output on and hear the wishes, until it is over."""
        selector = selectors.DefaultSelector()
        wishes = self._wishes.fileno()
        for source in (self._woken, wishes, *self._output.sources):
            selector.register(source, selectors.EVENT_READ)
        while not self._is_over():
            for key, _ in selector.select(TICK):
                if key.fd == self._woken:
                    os.read(self._woken, 4096)
                elif key.fd == wishes:
                    self._hear()
                else:
                    self._output.read(key.fd)
                    if key.fd not in self._output.sources:
                        selector.unregister(key.fd)

    def _should_stop(self) -> bool:
        """Whether it was asked to end before it began."""
        while self._wishes.poll() and not self._is_orphan:
            self._hear()
        self._mind_lease()
        return self._was_asked or self._is_killed or self._is_orphan

    def _is_over(self) -> bool:
        """Whether it has ended, took too much, or is to be ended by force."""
        self._reap()
        self._mind_lease()
        if self._status is not None or self._is_killed or self._is_orphan:
            return True
        self._verdict = self._limits.look()
        return self._verdict is not None

    def _mind_lease(self) -> None:
        """End when the launcher is gone, or the supervisor too long without a beat."""
        self._is_orphan |= os.getppid() != self._launcher
        late = since_boot() - self._until
        # What waits in the pipe counts, however late it comes to be read.
        if late > 0 and not self._wishes.poll():
            if not self._is_silent:
                self._is_silent = True
                self._terminate()
            self._is_killed |= late > GRACE

    def _hear(self) -> None:
        """One wish of the supervisor."""
        try:
            wish = self._wishes.recv_bytes()
        except (EOFError, OSError):
            self._is_orphan = True
            return
        if wish.startswith(WORD):
            self._until = float(wish.removeprefix(WORD)) + LEASE
            self._is_recorded = True
        elif wish in (b"stop", b"terminate"):
            self._terminate()
        elif wish == b"kill":
            self._is_killed = True
        elif wish == b"check":
            self._report({"event": "alive"})
        elif wish.startswith(b"signal "):
            self._warn(tree.number_of(wish[7:].decode("ascii", "replace")))

    def _terminate(self) -> None:
        self._was_asked = True
        for pid in tree.descendants(os.getpid()):
            marks.send(pid, signal.SIGTERM)
            marks.send(pid, signal.SIGCONT)

    def _warn(self, number: int) -> None:
        """Signal the processes that listen for it; it would be the end of any other."""
        for pid in tree.descendants(os.getpid()):
            if number and tree.listens(pid, number):
                marks.send(pid, number)

    def _reap(self) -> bool:
        """Wait for what has ended; whether a process that the script began is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid == self._program:
                self._status = status

    def _end_all(self) -> int:
        """Kill every process that the script began; how many the kernel does not let go.

        A list of processes may miss one that forks and ends all the time. But who adopts orphans
        and has no child has no descendant.
        """
        until = since_boot() + PATIENCE
        while self._reap():
            if since_boot() > until:
                return len(tree.descendants(os.getpid()))
            if self._group is not None:
                self._group.kill()
            marks.kill(tree.descendants(os.getpid()))
            for source in self._output.sources:
                self._output.read(source)
            for _ in range(CHASES):
                if not self._reap():
                    return 0
                for pid in tree.children():
                    marks.send(pid, signal.SIGKILL)
            time.sleep(PAUSE)
        return 0

    def _conclude(self, left: int) -> None:
        self._verdict = self._verdict or self._limits.came_to_its_memory()
        # A script that never began ended by the wish.
        status = signal.SIGTERM if self._status is None else self._status
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        reason, message = self._verdict or ("", "")
        if not reason and (code or number):
            how = signal_name(number) if number else f"exit code {code}"
            reason, message = (
                "exit_status",
                f"It ended {'by' if number else 'with'} {how}.",
            )
        if self._verdict:
            self._output.note(message)
        if dropped := self._output.log.dropped:
            text = f"{dropped:,} bytes of output were not kept; the log was full."
            self._report({"event": "note", "text": text})
        if left:
            text = f"{left} processes of it cannot be ended; the kernel holds them."
            self._report({"event": "note", "text": text})
        self._report(
            {
                "event": "exited",
                "exit_code": code,
                "signal": number,
                "was_asked": self._was_asked or self._is_killed,
                "reason": reason,
                "message": message,
                "peak_memory": self._limits.peak,
            }
        )

    def _report(self, event: Mapping[str, Any]) -> None:
        try:
            self._reports.send_bytes(json.dumps(event).encode())
        except OSError:
            self._is_orphan = True  # nobody listens any more


def signal_name(number: int) -> str:
    """Its name, as for SIGSEGV; a real-time signal has a number only."""
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
