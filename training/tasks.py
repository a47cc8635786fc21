"""Celery's way in: one task is one supervisor thread."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from registry.deliveries import revocation
from training import worker


@shared_task(name="training.run", bind=True, ignore_result=True)
def run(self: Any, task: int, attempt: int) -> None:
    """Supervise the attempt that dispatch assigned to this worker."""
    worker.CURRENT.run(task, attempt, revocation(self.request.id))
