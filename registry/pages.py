"""Pages of tasks, read with no more columns and statements than are shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from registry.models import Dependency, Task

BESIDE = {"owner": "username", "node": "name"}  # what is shown of the rows beside


def lean(rows: Any, *, with_elements: bool) -> Any:
    """Of the rows beside only what is shown; what an element was asked for is in its head."""
    beside = BESIDE | ({"array": "params"} if with_elements else {})
    rows = rows.prefetch_related(None).select_related(None)
    return rows.select_related(*beside).defer(*_unshown(tuple(beside.items())))


def add_dependencies(tasks: Sequence[Task]) -> None:
    """As `prefetch_related` would, which takes longer for the page than the page itself."""
    found: dict[int, list[Dependency]] = {task.pk: [] for task in tasks}
    for one in Dependency.objects.filter(task__in=found).order_by("pk"):
        found[one.task_id].append(one)
    for task in tasks:
        vars(task)["_prefetched_objects_cache"] = {"dependencies": found[task.pk]}


@cache
def _unshown(beside: tuple[tuple[str, str], ...]) -> list[str]:
    names = []
    for name, shown in beside:
        model: Any = Task._meta.get_field(name).related_model
        names += [
            f"{name}__{field.name}"
            for field in model._meta.concrete_fields
            if field.name != shown and not field.primary_key
        ]
    return names
