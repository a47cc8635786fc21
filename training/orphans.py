"""Job processes of this host that outlived their attempt: found by their mark, and ended."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db import transaction

from registry import clock
from registry.models import Attempt, Incident
from registry.models.node import LOST_AFTER
from training import marks, remains
from training.processes import boot_id, group_members, is_alive, signal_group

log = logging.getLogger(__name__)

LATELY = timedelta(days=7)  # attempts that ended since then are known by their mark
GONE_WITHIN = 100  # looks, 20 ms apart


def place_of(node: str) -> str:
    """What tells the marks of this node from those of others and of other installations."""
    return f"{settings.DATA_DIR} {node}"


def mark_of(attempt: Attempt, node: str) -> int:
    return marks.of_job(place_of(node), attempt.task_id, attempt.number)


def is_gone(attempt: Attempt) -> bool:
    """End what runs of that attempt on this host; whether nothing of it runs any more.

    Of an attempt that another host runs it is known only once its lease is over. One whose
    process was never recorded has not begun, and cannot once its row is held.
    """
    if attempt.pid is None:
        return True
    if attempt.boot != boot_id():
        beat = attempt.task.beat_at
        return beat is None or beat <= clock.now() - LOST_AFTER
    assert attempt.pid_started is not None
    mark = mark_of(attempt, attempt.node.name)
    found = remains.living(mark)
    lives = is_alive(attempt.pid, attempt.pid_started, attempt.boot)
    if lives or found:
        log.warning("Ending process %s, left by %s", attempt.pid, attempt)
    if lives:
        signal_group(attempt.pid, signal.SIGKILL)
    if found and remains.end(mark):
        return False
    for _ in range(GONE_WITHIN if lives else 0):
        if not group_members(attempt.pid):
            return True
        time.sleep(0.02)
    return not lives


def end_orphans(node: str) -> int:
    """End the marked processes of this node whose attempt is over; how many there were."""
    # The processes before the rows: what begins in between is in no list of them.
    found = remains.of_node(marks.of_node(place_of(node)))
    if not found:
        return 0
    mine = Attempt.objects.filter(node__name=node).select_related("task")
    for attempt in mine.filter(finished_at=None):
        found.pop(mark_of(attempt, node), None)
    if not found:
        return 0
    over = {
        mark_of(attempt, node): attempt
        for attempt in mine.filter(finished_at__gt=clock.now() - LATELY)
    }
    for mark, pids in found.items():
        left = remains.end(mark)
        _tell(node, over.get(mark), pids, left)
    return sum(len(pids) for pids in found.values())


def _tell(node: str, attempt: Attempt | None, pids: Iterable[int], left: int) -> None:
    pids = sorted(pids)
    some = ", ".join(str(pid) for pid in pids[:10])
    whose = f"attempt {attempt}" if attempt else "an attempt that is gone"
    text = f"{node} ended {len(pids)} processes left of {whose}: {some}."
    if left:
        text += f" {left} of them cannot be ended; the kernel holds them."
    log.warning("%s", text)
    summary = {"ended": len(pids) - left, "left": left}
    if attempt is not None:
        summary |= {"task": attempt.task_id, "attempt": attempt.number}
    with transaction.atomic():
        Incident.record("orphan", text, node=node, summary=summary)
        if attempt is not None:
            attempt.task.note("orphan", text)
