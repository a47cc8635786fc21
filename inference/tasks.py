"""Celery's way in: one task of kind `predict`."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from inference import worker
from registry.deliveries import revocation


@shared_task(name="inference.run", bind=True, ignore_result=True)
def run(self: Any, task: int, attempt: int) -> None:
    """Run the attempt that dispatch assigned to this worker."""
    worker.CURRENT.run(task, attempt, revocation(self.request.id))
