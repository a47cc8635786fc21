"""The warm process that jobs fork from, and a handle on each job."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing import connection
from pathlib import Path
from select import select
from typing import Any

from training import job as job_module
from training import lease, marks, remains
from training.processes import group_members, signal_group, start_ticks
from training.scripts import groups, shim

log = logging.getLogger(__name__)

# Imported once before the first job; none of them may run a torch operation or a CUDA call.
PRELOAD = ["training.job", "training.scripts.shim", "training.preload"]
DIED = (EOFError, ConnectionError)  # what a call of the warm process ends by
PAUSES = (0.0, 0.5, 2.0)  # seconds before the next one is tried
# What runs in the job process, by the kind of task.
MAINS = {"train": job_module.main, "script": shim.main}


class Job:
    """One forked job process, the leader of a group of its own.

    With a mark, all that carry it belong to the job, in whichever group they are.
    """

    def __init__(
        self, process: Any, reports: Any, wishes: Any, mark: int | None = None
    ) -> None:
        self._process, self._reports, self._wishes = process, reports, wishes
        self._mark = mark
        self.pid: int = process.pid
        self.ticks = start_ticks(self.pid) or 0

    @property
    def is_over(self) -> bool:
        return self._process.exitcode is not None

    @property
    def exit_code(self) -> int | None:
        """What it returned; None if a signal ended it."""
        code: int | None = self._process.exitcode
        return code if code is not None and code >= 0 else None

    @property
    def signal(self) -> int | None:
        """The signal that ended it."""
        code: int | None = self._process.exitcode
        return -code if code is not None and code < 0 else None

    def frames(self, timeout: float) -> list[dict[str, Any]]:
        """The reports that came within `timeout` seconds; returns early with the first."""
        found: list[dict[str, Any]] = []
        sources = [self._process.sentinel]
        if self._reports is not None:
            sources.append(self._reports)
        connection.wait(sources, timeout)
        try:
            while self._reports is not None and self._reports.poll():
                found.append(json.loads(self._reports.recv_bytes()))
        except (EOFError, OSError, ValueError):
            self._reports.close()
            self._reports = None
        return found

    def ask_to_stop(self) -> None:
        self.wish(b"stop")

    def ask_to_checkpoint(self) -> None:
        """Have it leave a checkpoint at its next step, and go on."""
        self.wish(b"checkpoint")

    def check(self) -> None:
        """Ask for a sign of life, which comes as a frame `alive`."""
        self.wish(b"check")

    def warn(self) -> None:
        """Signal a script that its time is nearly over."""
        self.wish(b"signal USR1")

    def wish(self, words: bytes) -> None:
        """Say something to the job: stop, checkpoint, check, or signal and its name."""
        try:
            # A job that stands still reads nothing, and a full pipe must hold nobody up.
            if select([], [self._wishes], [], 0)[1]:
                self._wishes.send_bytes(words)
        except OSError:
            pass  # it is already gone

    def renew(self, beaten: float) -> None:
        """Tell it of a beat that began at that moment; the first word lets it begin."""
        self.wish(lease.word(beaten))

    def terminate(self) -> None:
        signal_group(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self._mark is not None:
            marks.kill(marks.carriers(self._mark))
            groups.end(f"{self._mark:x}")
        signal_group(self.pid, signal.SIGKILL)

    def members(self) -> list[int]:
        """The processes of it that still live."""
        marked = [] if self._mark is None else remains.living(self._mark)
        return marked or group_members(self.pid)

    def close(self) -> None:
        """Reap it and free its pipes; it must be over."""
        self._process.join(5)
        self._wishes.close()
        if self._reports is not None:
            self._reports.close()
        if self.is_over:
            self._process.close()


class Launcher:
    """Forks jobs from one warm process, started once and again if it dies."""

    def __init__(
        self,
        preload: list[str] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD if preload is None else preload)
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Start the warm process without waiting for its imports."""
        from multiprocessing import forkserver

        with self._lock:
            _set_environment()
            forkserver.ensure_running()

    def launch(self, spec: Mapping[str, Any]) -> Job:
        """Start a job; `spec` is plain data, see training.preparation.

        Where the warm process dies over it, again from the next one: what it may have forked
        hears no word, and so does nothing. Raises EOFError, ConnectionError if all have died.
        """
        for pause in PAUSES:
            try:
                return self._launch(spec)
            except DIED as error:
                log.warning("The launcher died; starting another: %r", error)
                self._sleep(pause)
        return self._launch(spec)

    def _launch(self, spec: Mapping[str, Any]) -> Job:
        reports, reports_end = self._context.Pipe(duplex=False)
        wishes_end, wishes = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=MAINS[spec.get("kind", "train")],
            args=(dict(spec), reports_end, wishes_end),
            name=f"job-{spec['task']}",
        )
        try:
            with self._lock:
                _set_environment()
                process.start()
        finally:
            reports_end.close()
            wishes_end.close()
        return Job(process, reports, wishes, spec.get("mark"))


def _set_environment() -> None:
    """What the warm process must find when it begins.

    On Python 3.11 the forkserver drops our sys.path, so this project goes on PYTHONPATH; and
    libgomp reads its policy when it is loaded: idle threads that spin cost busy hosts dearly.
    Without MKL_CBWR the last bits of a product depend on where in memory its operands lie.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("MKL_CBWR", "AUTO")
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if root not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, paths)])
