"""Celery's ways in: one online request, and one task of kind `predict`."""

from __future__ import annotations

import datetime
import logging
from typing import Any

from celery import shared_task
from django.db import InterfaceError, OperationalError

from inference import worker
from inference.replies import Replied
from registry import clock
from registry.deliveries import revocation
from registry.errors import Problem

log = logging.getLogger(__name__)


@shared_task(name="inference.predict", base=Replied)
def predict(version: int, items: list[Any], deadline: str) -> dict[str, Any]:
    """Answer the items: {outputs}, or {problem} that concerns them all.

    `deadline` is a moment of the database's clock; after it nobody waits for the answer.
    """
    try:
        if clock.now() > datetime.datetime.fromisoformat(deadline):
            return {"problem": Problem("timeout", "The deadline has passed.").as_dict()}
        return {"outputs": worker.CURRENT.predict(version, items)}
    except Problem as problem:
        return {"problem": {**problem.as_dict(), "retry_after": problem.retry_after}}
    except (OperationalError, InterfaceError):
        away = Problem("database_unavailable", "The database does not answer.")
        return {"problem": {**away.as_dict(), "retry_after": 2}}
    except Exception:
        log.exception("A prediction by version %s failed", version)
        text = "The prediction failed; the worker's log says why."
        return {"problem": Problem("internal", text).as_dict()}


@shared_task(name="inference.run", bind=True, ignore_result=True)
def run(self: Any, task: int, attempt: int) -> None:
    """Run the attempt that dispatch assigned to this worker."""
    worker.CURRENT.run(task, attempt, revocation(self.request.id))
