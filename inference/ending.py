"""Why a run stops before its work is done."""

from __future__ import annotations

from django.db import InterfaceError, OperationalError

from registry.models import Task

AWAY = (OperationalError, InterfaceError)  # the database does not answer
RETRY_EVERY = 1.0  # seconds, while the database is away or memory is short
DEADLY_AFTER = 6  # workers that ended over a batch in a row, with no shard done
DEADLY = (
    f"{DEADLY_AFTER} workers ended over this batch, one after the other, and no part of it was"
    " done meanwhile. Most likely the model brings them down on one of its items."
)


class Ended(Exception):
    """The run is over early: by a wish (cancel, pause, move, release), time_limit, or abandon."""

    def __init__(self, wish: str) -> None:
        super().__init__(wish)
        self.wish = wish


def ends_its_workers(task: Task) -> bool:
    """Whether its latest attempts all were lost with their workers, and got nothing done."""
    earlier = task.attempts.filter(number__lt=task.attempt, started_at__isnull=False)
    latest = list(earlier.order_by("-number")[:DEADLY_AFTER])
    if len(latest) < DEADLY_AFTER or {one.reason for one in latest} != {"node_lost"}:
        return False
    done = task.shards.filter(done_at__gte=latest[-1].started_at)
    return not done.exists()
