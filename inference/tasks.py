"""Celery's ways in: one online request, and one task of kind `predict`."""

from __future__ import annotations

import datetime
import logging
from typing import Any

from celery import shared_task
from celery.exceptions import Ignore
from django.db import InterfaceError, OperationalError

from inference import worker
from inference.replies import InHand, Replied
from registry import clock
from registry.deliveries import revocation
from registry.errors import Problem

log = logging.getLogger(__name__)


@shared_task(name="inference.predict", base=Replied, bind=True)
def predict(
    self: Any, version: int, items: list[Any], deadline: str, again: bool = False
) -> dict[str, Any]:
    """Answer the items: {outputs}, or {problem} that concerns them all.

    `deadline` is a moment of the database's clock; after it nobody waits for the answer. `again`
    says that the request was sent before: it is dropped if it is in hand here or answered.
    """
    request = self.request.id
    if again and (request in in_hand or self.is_answered(request)):
        raise Ignore
    with in_hand.hold(request):
        return _answer(version, items, deadline)


def _answer(version: int, items: list[Any], deadline: str) -> dict[str, Any]:
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


def _give_sign(request: str) -> None:
    try:
        predict.give_sign(request)
    except Exception:
        predict.forget_connection()
        raise


in_hand = InHand(_give_sign)


@shared_task(name="inference.run", bind=True, ignore_result=True)
def run(self: Any, task: int, attempt: int) -> None:
    """Run the attempt that dispatch assigned to this worker."""
    worker.CURRENT.run(task, attempt, revocation(self.request.id))
