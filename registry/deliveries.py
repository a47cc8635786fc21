"""Which attempts a worker process runs: by message, or by their rows when it was lost."""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable

from celery.worker.state import revoked
from django.db import connection
from django.db.models import F

from registry import clock, dispatcher, probes
from registry.crashpoints import crashpoint
from registry.kinds import KINDS
from registry.models import Node, Task
from registry.states import State

log = logging.getLogger(__name__)

UNTAKEN_AFTER = datetime.timedelta(seconds=5)

IsRevoked = Callable[[], bool]


class Deliveries:
    """Runs each attempt of one node once in this process, however often it is delivered.

    `run` (task, is_revoked) sees an attempt through, by claiming it first.
    """

    def __init__(self, run: Callable[[Task, IsRevoked], None]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._running: set[tuple[int, int]] = set()

    def take(self, node: Node, task: int, attempt: int, is_revoked: IsRevoked) -> None:
        """Run that attempt, if it is still assigned to the node and not yet run here."""
        rows = Task.objects.filter(pk=task, attempt=attempt, node=node)
        row = rows.filter(state=State.ASSIGNED).select_related("node").first()
        with self._lock:
            if row is None or (task, attempt) in self._running:
                log.info("Nothing to do for attempt %s-%s", task, attempt)
                return
            self._running.add((task, attempt))
        crashpoint("taken-before-claim")
        try:
            if KINDS[row.kind].is_light:
                probes.run(node, [(task, attempt)])
            else:
                self._run(row, is_revoked)
        finally:
            with self._lock:
                self._running.discard((task, attempt))
        crashpoint("cleaned-before-dispatch")
        dispatcher.nudge()

    def take_untaken(self, node: Node) -> list[threading.Thread]:
        """Run what was assigned here and whose message did not come: the row is the truth."""
        overdue = clock.now() - UNTAKEN_AFTER
        rows = Task.objects.filter(
            node=node, state=State.ASSIGNED, assigned_at__lte=overdue
        )
        threads = [
            threading.Thread(
                target=self._take_alone,
                args=(node, task.pk, task.attempt),
                name=f"untaken-{task.celery_id}",
            )
            for task in rows
        ]
        for thread in threads:
            thread.start()
        return threads

    def forgotten(self, node: Node, since: datetime.timedelta) -> list[Task]:
        """What this life of the node started, does not run, and has not spoken of so long."""
        rows = Task.objects.filter(
            node=node,
            state=State.RUNNING,
            beat_at__lte=clock.now() - since,
            attempts__number=F("attempt"),
            attempts__incarnation=node.incarnation,
        )
        with self._lock:
            return [row for row in rows if (row.pk, row.attempt) not in self._running]

    def wait_until_idle(self, seconds: float) -> None:
        """Wait until no attempt is left here, for a bounded time."""
        deadline = time.monotonic() + seconds
        while self._running and time.monotonic() < deadline:
            time.sleep(0.05)
        dispatcher.flush(max(deadline - time.monotonic(), 0.0))

    def _take_alone(self, node: Node, task: int, attempt: int) -> None:
        try:
            self.take(node, task, attempt, revocation(f"{task}-{attempt}"))
        except Exception:
            log.exception("Attempt %s-%s", task, attempt)
        finally:
            connection.close()


def revocation(celery_id: str) -> IsRevoked:
    """Tells whether a revoke came since the last look; the row says what is wished."""

    def is_revoked() -> bool:
        if celery_id not in revoked:
            return False
        revoked.discard(celery_id)
        return True

    return is_revoked
