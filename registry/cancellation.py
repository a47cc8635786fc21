"""A user's wish to cancel, for one task or for a whole array."""

from __future__ import annotations

from registry import arrays, broker
from registry.models import Task


def cancel(task: Task) -> None:
    """Cancel at once what nobody runs, and have the workers look at the rest.

    Raises Stale if the task is final.
    """
    if task.is_head:
        asked = arrays.cancel(task)
    else:
        task.request_cancel()
        asked = [task]
    for one in asked:
        broker.revoke(one)
