"""One thread's watch over one attempt: launch, beat, report, stop, and one final verb."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from django.db import (
    InterfaceError,
    OperationalError,
    close_old_connections,
    transaction,
)

from registry.crashpoints import crashpoint
from registry.models import Node, Stale, Task
from registry.states import State
from training import ending, preparation
from training.launcher import Job, Launcher
from training.lease import LEASE
from training.processes import boot_id, since_boot
from training.reports import Reports
from training.signs import Signs

log = logging.getLogger(__name__)

TICK = 0.05  # seconds between looks at the job and at the wishes
FLUSH_EVERY = 0.5  # seconds, when there is something new
BEAT_EVERY = 2.0  # seconds, when there is not
AGAIN_AFTER = timedelta(seconds=15)  # what found no room here
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
        refusal: Callable[[Task, list[int]], str] = lambda task, gpus: "",
        monotonic: Callable[[], float] = since_boot,
    ) -> None:
        self.task, self.node, self._launcher = task, node, launcher
        self._is_revoked, self._is_stopping = is_revoked, is_stopping
        self._refusal, self._monotonic = refusal, monotonic
        self.wish = ""  # cancel, pause, move, release, time_limit, hung or abandon
        self.hung = ""  # in what way, as a sentence
        self._wished_at = 0.0
        self._rungs: list[str] = []
        self._is_recorded = self._is_warned = False
        self.peak_memory = 0

    def run(self) -> None:
        """Claim the attempt and see it through; returns at once if it is somebody else's."""
        gpus = self.task.attempts.get(number=self.task.attempt).gpus
        if text := self._refusal(self.task, gpus):
            return self._decline(text)
        # Before the claim: the database may take its time, and counts from its beginning.
        leased, self._beaten = since_boot(), self._monotonic()
        try:
            self.task.start(self.node)
        except Stale as stale:
            log.info("%s", stale)
            return None
        self._started = self._monotonic()
        crashpoint("claimed-before-launch")
        try:
            # Not given up for a moment without the database: it is claimed, and a script
            # that was claimed is not tried again.
            self.spec = ending.insist(lambda: preparation.prepare(self.task, gpus))
            self.spec["leased"] = leased
            job = self._launcher.launch(self.spec)
        except Exception as error:
            ending.give_up(self.task, error)
            return None
        crashpoint("launched-before-recorded")
        fault: Exception | None = None
        try:
            self._watch(job)
        except Exception as error:
            fault = error
        self._leave_nothing(job)
        crashpoint("over-before-final-verb")
        if fault is None:
            ending.write(self, job)
        elif self.wish != "abandon":
            ending.give_up(self.task, fault)
        job.close()
        return None

    def _decline(self, text: str) -> None:
        """Let it wait until there is room; only what has not begun."""
        task, waiting = self.task, State.ASSIGNED
        rows = Task.objects.filter(pk=task.pk, attempt=task.attempt, state=waiting)
        with transaction.atomic():
            if rows.select_for_update().exists():
                task.release("no_room", text, wait=AGAIN_AFTER)

    def _watch(self, job: Job) -> None:
        self.reports = Reports(self.task)
        log_file, hang_after = Path(self.spec["log"]), self.task.hang_after
        self._signs = Signs(job, log_file, hang_after, self._monotonic())
        self._look(job)
        while not job.is_over:
            for frame in job.frames(TICK):
                self._signs.take(frame)
                self.reports.take(frame)
            self._look(job)
            self._climb(job)
        for frame in job.frames(0):
            self.reports.take(frame)

    def _beat(self, job: Job) -> bool:
        """Write what is new, at first who the job is; then let the job go on, or begin."""
        beaten = since_boot()
        if not self._tell(partial(self._write, job)):
            return False
        self._is_recorded = True
        crashpoint("after-beat")
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
        self._warn(job, now - self._started)
        self.hung = self.hung or self._signs.look(now)
        limit = self.task.time_limit
        if silent > LEASE:
            self._want("abandon")
        elif self.task.cancel_requested_at:
            self._want("cancel")
        elif limit is not None and now - self._started > limit:
            self._want("time_limit")
        elif self.hung:
            self._want("hung")
        elif self.task.pause_requested_at:
            self._want("pause")
        elif self.task.release_requested_at:
            self._want("move")
        elif self._is_stopping():
            self._want("release")

    def _warn(self, job: Job, ran: float) -> None:
        """Once at the soft limit: a script gets a signal, a training leaves a checkpoint."""
        task, soft = self.task, self.task.soft_time_limit
        if soft is None or ran <= soft or self._is_warned or self.wish:
            return
        text = f"It has run for its soft time limit of {soft} s."
        if task.time_limit:
            text += f" It is ended at {task.time_limit} s."
        if self._tell(partial(task.remark, "warn", text)):
            self._is_warned = True
            job.warn() if task.kind == "script" else job.ask_to_checkpoint()

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
        graces = QUICK if self.wish in ("cancel", "abandon", "hung") else PATIENT
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
