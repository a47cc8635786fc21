"""Celery's way in: one task is one supervisor thread."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.worker.state import revoked

from training import worker


@shared_task(name="training.run", bind=True, ignore_result=True)
def run(self: Any, task: int, attempt: int) -> None:
    """Supervise the attempt that dispatch assigned to this worker."""

    def is_revoked() -> bool:
        """Whether a revoke came since the last look; the row says what is wished."""
        if self.request.id in revoked:
            revoked.discard(self.request.id)
            return True
        return False

    worker.CURRENT.run(task, attempt, is_revoked)
