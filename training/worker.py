"""What a cpu or gpu worker process holds: its node, its launcher, and the attempts it runs."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable

from registry import devices
from registry.deliveries import Deliveries
from registry.membership import Membership
from registry.models import Attempt, Task
from training import cores, marks
from training.launcher import Launcher
from training.processes import group_members, is_alive, signal_group
from training.script_preparation import place_of
from training.scripts import groups
from training.supervisor import Supervisor

log = logging.getLogger(__name__)

STOP_WITHIN = 20.0  # seconds for all jobs to leave a checkpoint at a clean stop


class Worker:
    """One life of a node; made once in the worker's process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._stopping = threading.Event()
        self._launcher = Launcher()
        self._deliveries = Deliveries(self._supervise)
        self._membership: Membership | None = None

    def begin(self) -> None:
        """End what an earlier life left, then offer this host's resources."""
        end_leftovers(self.name)
        self._launcher.warm_up()
        self._membership = Membership(
            self.name,
            gpus=devices.gpus() if self.name.startswith("gpu@") else [],
            on_beat=self._deliveries.take_untaken,
            on_lost=self._stopping.set,
        )
        self._membership.join_in()

    def run(self, task: int, attempt: int, is_revoked: Callable[[], bool]) -> None:
        """Supervise that attempt, if it is still to be run here."""
        assert self._membership is not None
        self._deliveries.take(self._membership.node, task, attempt, is_revoked)

    def ask_to_stop(self) -> None:
        """Let every job checkpoint and give its resources back."""
        if self._membership is not None:
            self._membership.leave()
        self._stopping.set()

    def stop(self) -> None:
        """Wait until the jobs are gone, for a bounded time."""
        self.ask_to_stop()
        self._deliveries.wait_until_idle(STOP_WITHIN)

    def _supervise(self, task: Task, is_revoked: Callable[[], bool]) -> None:
        assert self._membership is not None
        try:
            Supervisor(
                task,
                self._membership.node,
                self._launcher,
                is_revoked=is_revoked,
                is_stopping=self._stopping.is_set,
            ).run()
        finally:
            cores.give_back(task.celery_id)


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
    mark = marks.of_node(place_of(name))
    count += len(marks.carriers(mark))
    if left := marks.end(mark):
        log.error("%s processes of earlier scripts cannot be ended", left)
    groups.remove_leftovers(f"{mark >> marks.JOB_BITS:x}")
    return count


CURRENT: Worker  # of this process; set when a Celery worker of lane cpu or gpu starts
