"""What a cpu or gpu worker process holds: its node, its launcher, and the attempts it runs."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable

from django.db import connection

from registry import clock, devices
from registry.membership import Membership
from registry.models import Attempt, Node, Task
from registry.scheduler import RESEND_AFTER, dispatch
from registry.states import State
from training.launcher import Launcher
from training.processes import group_members, is_alive, signal_group
from training.supervisor import Supervisor

log = logging.getLogger(__name__)

STOP_WITHIN = 20.0  # seconds for all jobs to leave a checkpoint at a clean stop


class Worker:
    """One life of a node; made once in the worker's process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[tuple[int, int], list[int]] = {}  # attempt -> GPU indexes
        self._launcher = Launcher()
        self._membership: Membership | None = None

    def begin(self) -> None:
        """End what an earlier life left, then offer this host's resources."""
        end_leftovers(self.name)
        self._launcher.warm_up()
        self._gpus = devices.gpus() if self.name.startswith("gpu@") else []
        self._membership = Membership(
            self.name,
            gpus=self._gpus,
            on_beat=self._take_untaken,
            on_lost=self._stopping.set,
        )
        self._membership.join_in()

    def run(self, task: int, attempt: int, is_revoked: Callable[[], bool]) -> None:
        """Supervise that attempt, if it is still to be run here."""
        assert self._membership is not None
        row = Task.objects.filter(pk=task, attempt=attempt, state=State.ASSIGNED)
        found = row.select_related("node").first()
        if found is None or found.node_id != self._membership.node.pk:
            log.info("Nothing to do for attempt %s-%s", task, attempt)
            return
        with self._lock:
            if (task, attempt) in self._running:
                return
            taken = {index for used in self._running.values() for index in used}
            free = [one["index"] for one in self._gpus if one["index"] not in taken]
            gpus = free[: found.gpus]
            self._running[task, attempt] = gpus
        try:
            Supervisor(
                found,
                self._membership.node,
                self._launcher,
                is_revoked=is_revoked,
                is_stopping=self._stopping.is_set,
                gpus=gpus,
            ).run()
        finally:
            with self._lock:
                del self._running[task, attempt]
        dispatch()

    def ask_to_stop(self) -> None:
        """Let every job checkpoint and give its resources back."""
        if self._membership is not None:
            self._membership.leave()
        self._stopping.set()

    def stop(self) -> None:
        """Wait until the jobs are gone, for a bounded time."""
        self.ask_to_stop()
        deadline = time.monotonic() + STOP_WITHIN
        while self._running and time.monotonic() < deadline:
            time.sleep(0.05)

    def _take_untaken(self, node: Node) -> None:
        """Run what was assigned here and whose message did not come: the row is the truth."""
        overdue = clock.now() - RESEND_AFTER
        rows = Task.objects.filter(
            node=node, state=State.ASSIGNED, sent_at__lte=overdue
        )
        for task in rows:
            threading.Thread(
                target=self._run_alone,
                args=(task.pk, task.attempt),
                name=f"untaken-{task.celery_id}",
            ).start()

    def _run_alone(self, task: int, attempt: int) -> None:
        try:
            self.run(task, attempt, lambda: False)
        except Exception:
            log.exception("Attempt %s-%s", task, attempt)
        finally:
            connection.close()


def end_leftovers(name: str) -> int:
    """Kill the jobs that an earlier life of the node left running; their number."""
    count = 0
    attempts = Attempt.objects.filter(node__name=name, finished_at=None)
    for attempt in attempts.exclude(pid=None):
        assert attempt.pid is not None
        assert attempt.pid_started is not None
        if is_alive(attempt.pid, attempt.pid_started, attempt.boot):
            log.warning("Ending process %s, left by %s", attempt.pid, attempt)
            signal_group(attempt.pid, signal.SIGKILL)
            for _ in range(100):
                if not group_members(attempt.pid):
                    break
                time.sleep(0.02)
            count += 1
    return count


CURRENT: Worker  # of this process; set when a Celery worker of lane cpu or gpu starts
