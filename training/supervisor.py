"""One thread's watch over one attempt: launch, beat, report, stop, and one final verb."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
from django.db import (
    InterfaceError,
    OperationalError,
    close_old_connections,
    transaction,
)

from registry.models import Node, Stale, Task
from training import ending, preparation
from training.launcher import Job, Launcher
from training.lease import LEASE
from training.processes import boot_id
from training.reports import Reports

log = logging.getLogger(__name__)

TICK = 0.05  # seconds between looks at the job and at the wishes
FLUSH_EVERY = 0.5  # seconds, when there is something new
BEAT_EVERY = 2.0  # seconds, when there is not
# Seconds from the wish to each rung of the ladder. Training steps are shorter than the first.
QUICK = {"terminate": 0.4, "kill": 0.7}
PATIENT = {"terminate": 10.0, "kill": 12.0}
AWAY = (OperationalError, InterfaceError)


class Supervisor:
    """Owns one attempt from its start to its final verb; nobody else ends a living one."""

    def __init__(
        self,
        task: Task,
        node: Node,
        launcher: Launcher,
        *,
        is_revoked: Callable[[], bool],
        is_stopping: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.task, self.node, self._launcher = task, node, launcher
        self._is_revoked, self._is_stopping = is_revoked, is_stopping
        self._monotonic = monotonic
        self.wish = ""  # cancel, pause, move, release, time_limit or abandon
        self._wished_at = 0.0
        self._rungs: list[str] = []
        self._is_recorded = False
        self.peak_memory = 0

    def run(self) -> None:
        """Claim the attempt and see it through; returns at once if it is somebody else's."""
        # Before the claim: the database may take its time, and counts from its beginning.
        leased, self._beaten = time.monotonic(), self._monotonic()
        try:
            self.task.start(self.node)
        except Stale as stale:
            log.info("%s", stale)
            return
        self._started = self._monotonic()
        try:
            attempt = self.task.attempts.get(number=self.task.attempt)
            self.spec = preparation.prepare(self.task, attempt.gpus)
            self.spec["leased"] = leased
            job = self._launcher.launch(self.spec)
        except Exception as error:
            ending.give_up(self.task, error)
            return
        fault: Exception | None = None
        try:
            self._watch(job)
        except Exception as error:
            fault = error
        self._leave_nothing(job)
        if fault is None:
            ending.write(self, job)
        elif self.wish != "abandon":
            ending.give_up(self.task, fault)
        job.close()

    def _watch(self, job: Job) -> None:
        self.reports = Reports(self.task)
        self._look(job)
        while not job.is_over:
            for frame in job.frames(TICK):
                self.reports.take(frame)
            self._look(job)
            self._climb(job)
        for frame in job.frames(0):
            self.reports.take(frame)

    def _beat(self, job: Job) -> bool:
        """Write what is new, at first who the job is; then let the job go on, or begin."""
        beaten = time.monotonic()
        if not self._tell(partial(self._write, job)):
            return False
        self._is_recorded = True
        job.renew(beaten)
        return True

    def _write(self, job: Job) -> None:
        with transaction.atomic():
            self.reports.write(self.task)
            if not self._is_recorded:
                # Behind the fence, and before the job does anything: whoever takes the
                # attempt away knows which process to end.
                self.task.attempts.filter(number=self.task.attempt).update(
                    pid=job.pid, pid_started=job.ticks, boot=boot_id()
                )

    def _look(self, job: Job) -> None:
        """Beat when it is time, and see what the owner, the worker or the clock wish."""
        now = self._monotonic()
        silent = now - self._beaten
        due = FLUSH_EVERY if self.reports.is_new else BEAT_EVERY
        if self._is_revoked() or silent >= due or not self._is_recorded:
            self._measure(job)
            if self._beat(job):
                self._beaten, silent = now, 0.0
        limit = self.task.time_limit
        if silent > LEASE:
            self._want("abandon")
        elif self.task.cancel_requested_at:
            self._want("cancel")
        elif limit is not None and now - self._started > limit:
            self._want("time_limit")
        elif self.task.pause_requested_at:
            self._want("pause")
        elif self.task.release_requested_at:
            self._want("move")
        elif self._is_stopping():
            self._want("release")

    def _want(self, wish: str) -> None:
        quicker = wish in ("cancel", "abandon") and self.wish not in (
            "cancel",
            "abandon",
        )
        if not self.wish or quicker:
            self.wish, self._wished_at, self._rungs = wish, self._monotonic(), []

    def _climb(self, job: Job) -> None:
        """The ladder: ask the job to stop, then SIGTERM, then SIGKILL, each rung once."""
        if not self.wish:
            return
        waited = self._monotonic() - self._wished_at
        graces = QUICK if self.wish in ("cancel", "abandon") else PATIENT
        for rung, after, act in (
            ("ask_to_stop", 0.0, job.ask_to_stop),
            ("terminate", graces["terminate"], job.terminate),
            ("kill", graces["kill"], job.kill),
        ):
            if waited >= after and rung not in self._rungs:
                self._rungs.append(rung)
                act()
                if self.wish != "abandon":
                    self._tell(partial(self.task.remark, rung, f"For {self.wish}."))

    def _leave_nothing(self, job: Job) -> None:
        """End whatever the job left in its group, and wait until the kernel has it gone."""
        for _ in range(100):
            if job.is_over and not job.members():
                return
            job.kill()
            job.frames(TICK)
        log.error("Task %s left processes %s", self.task.pk, job.members())

    def _measure(self, job: Job) -> None:
        try:
            memory = psutil.Process(job.pid).memory_info().rss
        except psutil.Error:
            return
        self.peak_memory = max(self.peak_memory, memory)

    def _tell(self, write: Callable[[], Any]) -> bool:
        """Write to the database if it is there; Stale means that the attempt is lost."""
        try:
            write()
        except Stale as stale:
            log.warning("%s", stale)
            self._want("abandon")
            return False
        except AWAY as error:
            log.warning("The database is away: %s", error)
            close_old_connections()
            return False
        return True
