"""The regular duties: rescue, expire, clean. Each may run twice at once without harm."""

from __future__ import annotations

import datetime
import logging
from collections import Counter

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from registry import clock, discovery, idempotency, leftovers, sealing
from registry.crashpoints import crashpoint
from registry.models import (
    Attempt,
    IdempotencyKey,
    Incident,
    Node,
    Pulse,
    Stale,
    Task,
    Upload,
)
from registry.models.node import LOST_AFTER
from registry.scheduler import dispatch
from registry.states import State

log = logging.getLogger(__name__)

SUMMARY = (
    "found", "released", "failed", "cancelled", "paused", "cpus", "gpus", "orphans",
)  # fmt: skip
INCIDENTS_KEPT = datetime.timedelta(days=90)
UNKNOWN_AFTER = datetime.timedelta(seconds=60)  # without a beat, on a node that lives


def rescue() -> dict[str, int]:
    """Release what no worker runs any more, then place anew; how many, by what became of them, with
    the CPUs and GPUs that this gave back, and the orphan processes ended since the last time.

    That is what was placed on a node that is lost or stopped, what an earlier life of a node held
    and is silent, and what runs on a living node that has not spoken of it for a minute.
    """
    moment = clock.now()
    seen: Counter[str] = Counter(orphans=_orphans())
    if Task.objects.placed().exists():
        _rescue_placed(moment, seen)
    summary = {name: seen[name] for name in SUMMARY}
    if seen["found"] or seen["orphans"]:
        log.warning("Rescued: %s", summary)
        Incident.record("rescue", _told_of(summary), summary=summary)
    crashpoint("rescued-before-dispatch")
    dispatch()
    Pulse.record("rescue")
    return summary


def expire() -> dict[str, int]:
    """Services without beats, uploads that stand still, old records and idempotency keys."""
    moment = clock.now()
    services = discovery.expire()
    stalled = 0
    for upload in Upload.objects.stalled(moment):
        with transaction.atomic():
            # By the same look, and held: bytes that came between keep it.
            still = Upload.objects.stalled(moment).filter(pk=upload.pk)
            if still.select_for_update().values_list("pk"):
                text = f"No bytes came after {_told(upload.touched_at)}; send it again."
                stalled += upload.fail("cut_short", text)
    failed = Upload.objects.filter(state=Upload.State.FAILED, expires_at__lte=moment)
    Incident.objects.filter(at__lte=moment - INCIDENTS_KEPT).delete()
    keys = IdempotencyKey.objects.filter(created_at__lte=moment - idempotency.KEPT)
    summary = {
        **{f"services_{name}": count for name, count in services.items()},
        "uploads_stalled": stalled,
        "uploads_sent_again": sealing.send_again(),
        "uploads_removed": failed.delete()[0],
        "keys_removed": keys.delete()[0],
    }
    if any(summary.values()):
        log.info("Expired: %s", summary)
    Pulse.record("expire")
    return summary


def clean() -> dict[str, int]:
    """Remove files of the store that no row names and that are old enough."""
    summary = leftovers.remove()
    if any(summary.values()):
        log.info("Cleaned: %s", summary)
    Pulse.record("clean")
    return summary


def _rescue_placed(moment: datetime.datetime, seen: Counter[str]) -> None:
    # A supervisor that beats holds its task, whatever its node's own beat does: the job
    # would live on for a moment beside the next attempt.
    beats = Q(state=State.RUNNING, beat_at__gt=moment - LOST_AFTER)
    silent = Task.objects.placed().exclude(beats)
    for node in Node.objects.lost(moment):
        said = f"{node.name} was last seen at {_told(node.beat_at)}."
        here = silent.filter(
            node=node, node__stopped_at=None, node__beat_at__lte=moment - LOST_AFTER
        )
        _release(here, "node_lost", said, seen)
    stopped = silent.filter(node__stopped_at__lte=moment - LOST_AFTER)
    _release(stopped, "worker_stopped", "Its worker was stopped.", seen)
    earlier = Task.objects.filter(
        Exists(_earlier_lives()), state=State.RUNNING, beat_at__lte=moment - LOST_AFTER
    )
    _release(earlier, "node_lost", "An earlier life of its node ran it.", seen)
    unknown = Task.objects.filter(
        state=State.RUNNING, beat_at__lte=moment - UNKNOWN_AFTER
    )
    _release(unknown, "node_lost", "Its worker no longer spoke of it.", seen)


def _orphans() -> int:
    """How many processes workers have ended since the last rescue."""
    last = Pulse.objects.filter(name="rescue").first()
    since = Incident.objects.filter(
        kind="orphan", **({"at__gt": last.at} if last else {})
    )
    return sum(one.summary.get("ended", 0) for one in since)


def _earlier_lives() -> QuerySet[Attempt]:
    """The live attempts that a node's present life did not start."""
    live = Attempt.objects.filter(task=OuterRef("pk"), finished_at=None)
    return live.exclude(incarnation=OuterRef("node__incarnation"))


def _told_of(summary: dict[str, int]) -> str:
    parts = [
        f"{count} {name}"
        for name in ("released", "failed", "cancelled", "paused")
        if (count := summary[name])
    ]
    text = f"Found {summary['found']} lost tasks"
    text += f" ({', '.join(parts)}), freed {summary['cpus']} CPUs and {summary['gpus']} GPUs"
    return f"{text}, ended {summary['orphans']} orphan processes."


def _release(
    rows: QuerySet[Task], reason: str, message: str, seen: Counter[str]
) -> None:
    for task in rows.order_by("pk"):
        try:
            with transaction.atomic():
                # By the same look, and held: a beat that came between keeps it.
                still = rows.filter(pk=task.pk, attempt=task.attempt)
                if not still.select_for_update(of=("self",)).values_list("pk"):
                    continue
                task.release(reason, _sentence(task, message))
        except Stale:
            continue
        crashpoint("rescued-one-before-next")
        seen.update(found=1, cpus=task.cpus, gpus=task.gpus)
        seen["released" if task.state == State.PENDING else task.state] += 1


def _sentence(task: Task, message: str) -> str:
    if task.beat_at is None:
        return message
    return f"{message} The task's last beat was at {_told(task.beat_at)}."


def _told(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
