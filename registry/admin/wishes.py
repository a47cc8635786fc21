"""What may be asked of several tasks at once: each is met or refused by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest

from registry import dispatcher, orders
from registry.errors import Problem
from registry.models import Task

SHOWN = 20  # refusals told one by one


@admin.action(description="Cancel selected tasks", permissions=["change"])
def cancel(page: Any, request: HttpRequest, tasks: Any) -> None:
    _each(page, request, tasks, orders.cancel, "Asked to cancel", "cancelled")


@admin.action(description="Retry selected tasks", permissions=["change"])
def retry(page: Any, request: HttpRequest, tasks: Any) -> None:
    _each(page, request, tasks, orders.retry, "Retried", "retried")


@admin.action(description="Pause selected tasks", permissions=["change"])
def pause(page: Any, request: HttpRequest, tasks: Any) -> None:
    _each(page, request, tasks, orders.pause, "Asked to pause", "paused")


@admin.action(description="Resume selected tasks", permissions=["change"])
def resume(page: Any, request: HttpRequest, tasks: Any) -> None:
    _each(page, request, tasks, orders.resume, "Resumed", "resumed")


def _each(
    page: Any,
    request: HttpRequest,
    tasks: Any,
    ask: Callable[[Task], None],
    said: str,
    done: str,
) -> None:
    met, refused = 0, []
    for task in tasks:
        try:
            with transaction.atomic():
                ask(task)
                page.log_change(request, task, f"{said}.")
        except Problem as problem:
            refused.append(problem.detail)
        else:
            met += 1
    if met:
        transaction.on_commit(dispatcher.nudge, robust=True)
        messages.success(request, f"{said} {met} task{'s' * (met != 1)}.")
    for sentence in refused[:SHOWN]:
        messages.warning(request, sentence)
    if len(refused) > SHOWN:
        rest = len(refused) - SHOWN
        messages.warning(request, f"{rest} more could not be {done}.")
