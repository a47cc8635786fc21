"""From checked fields to an accepted task, alone or as an array, held or in line."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from registry import arrays, dependencies
from registry.arrays import Indexes
from registry.dependencies import Wanted
from registry.models import Task


def accept(
    *, depends_on: Wanted = (), array: Indexes | None = None, **fields: Any
) -> Task:
    """Accept a task of any kind; one transaction."""
    held = bool(depends_on)
    with transaction.atomic():
        if array is None:
            task = Task.objects.submit(held=held, **fields)
        else:
            task = arrays.submit(array, held=held, **fields)
        if held:
            dependencies.attach(task, depends_on)
            dependencies.resolve()
            task.refresh_from_db()
    return task
