"""A browser in the admin, and what a test reads from its pages."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from registry import clock
from registry.models import Model, ModelVersion, Task


def enter(user: User) -> Client:
    """A client in which that user is logged in; an error of the server is an answer."""
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def make_version(owner: User) -> ModelVersion:
    model, _ = Model.objects.get_or_create(
        name="toy", defaults={"created_at": clock.now()}
    )
    return model.register(
        digest="d" * 64, weights_sha256="e" * 64, size=1, recipe="tabular", owner=owner
    )


def at(page: str, *args: Any, app: str = "registry") -> str:
    return reverse(f"admin:{app}_{page}", args=args)


def told(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def act(site: Client, page: str, action: str, rows: list[Any], **more: Any) -> Any:
    asked = {"action": action, "_selected_action": [row.pk for row in rows], **more}
    return site.post(at(f"{page}_changelist"), asked, follow=True)


def form_of(task: Task, **changes: Any) -> dict[str, Any]:
    fields = {
        "name": task.name,
        "description": task.description,
        "priority": task.priority,
        "tags": "\n".join(task.tags),
    }
    return {**fields, **changes}
