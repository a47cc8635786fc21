"""What may be asked of several tasks at once: each is met or refused by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest

from registry import broker, cancellation, dispatcher
from registry.models import Stale, Task
from registry.states import State

SHOWN = 20  # refusals told one by one


@admin.action(description="Cancel selected tasks", permissions=["change"])
def cancel(page: Any, request: HttpRequest, tasks: Any) -> None:
    def ask(task: Task) -> None:
        if task.state != State.CANCELLED:
            cancellation.cancel(task)

    _each(page, request, tasks, ask, "Asked to cancel", "cancelled")


@admin.action(description="Retry selected tasks", permissions=["change"])
def retry(page: Any, request: HttpRequest, tasks: Any) -> None:
    _each(page, request, tasks, Task.retry, "Retried", "retried")


@admin.action(description="Pause selected tasks", permissions=["change"])
def pause(page: Any, request: HttpRequest, tasks: Any) -> None:
    def ask(task: Task) -> None:
        task.request_pause()
        broker.revoke(task)

    _each(page, request, tasks, ask, "Asked to pause", "paused")


@admin.action(description="Resume selected tasks", permissions=["change"])
def resume(page: Any, request: HttpRequest, tasks: Any) -> None:
    _each(page, request, tasks, Task.resume, "Resumed", "resumed")


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
        except Stale:
            refused.append(_why(task, done))
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


def _why(task: Task, done: str) -> str:
    now = Task.objects.filter(pk=task.pk).values_list("state", flat=True).first()
    return f"Task {task.pk} is {now or 'gone'} and cannot be {done}."
