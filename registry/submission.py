"""From checked fields to an accepted task, alone or as an array, held or in line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from registry import arrays, dependencies
from registry.arrays import Indexes
from registry.dependencies import Wanted
from registry.errors import Problem
from registry.models import Task

HIGHEST = 100  # priority that a user who is not staff may ask for
COMMON = (
    "name", "description", "tags", "priority", "max_retries", "time_limit",
    "soft_time_limit", "hang_after",
)  # fmt: skip


def accept(
    *, depends_on: Wanted = (), array: Indexes | None = None, **fields: Any
) -> Task:
    """Accept a task of any kind; one transaction."""
    held = bool(depends_on)
    with transaction.atomic(savepoint=False):
        if array is None:
            task = Task.objects.submit(held=held, **fields)
        else:
            task = arrays.submit(array, held=held, **fields)
        if held:
            dependencies.attach(task, depends_on)
            # Only this one: no row that another transaction may hold is waited for.
            dependencies.resolve(task)
            task.refresh_from_db()
    return task


def common(user: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What `accept` takes of a checked SubmitRequest, whatever the kind.

    Raises Problem `invalid` or `unknown_task` with the fields.
    """
    check_priority(user, asked.get("priority", 0))
    fields = {name: asked[name] for name in COMMON if name in asked}
    fields["depends_on"] = dependencies.check(user, asked.get("depends_on", {}))
    return {"owner": user, **fields}


def check_priority(user: Any, priority: int) -> None:
    """Only staff may go above what everybody may ask for. Raises Problem `invalid`."""
    if priority > HIGHEST and not user.is_staff:
        text = f"at most {HIGHEST}; an administrator may go up to 1000"
        raise Problem("invalid", f"priority: {text}.", errors={"priority": [text]})
