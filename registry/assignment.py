"""Many tasks assigned at once: the verb `assign`, with a bounded number of statements."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Mapping

from django.db import transaction

from registry import rows
from registry.models import Attempt, Node, Task, TaskEvent
from registry.models.life import placed_on
from registry.placement import Place
from registry.states import Move


def assign_all(
    places: Mapping[int, Place], nodes: Mapping[str, Node], moment: datetime.datetime
) -> list[Task]:
    """Place each task on its node and GPUs; those that still waited and are placed now.

    Each row is held while its state is looked at, and its attempt begins as `assign`
    begins it. What another transaction holds is left to the next pass.
    """
    if not places:
        return []
    with transaction.atomic():
        waiting = Task.objects.filter(pk__in=places, state__in=Move.ASSIGN.sources)
        held = waiting.select_for_update(skip_locked=True).order_by("pk")
        tasks = list(held.only("kind", "attempt", "state"))
        groups: dict[tuple[str, int], list[Task]] = defaultdict(list)
        for task in tasks:
            groups[places[task.pk].node, task.attempt].append(task)
        for (name, attempt), group in groups.items():
            changes = placed_on(nodes[name], moment)
            changes |= {"state": Move.ASSIGN.target, "attempt": attempt + 1}
            same = Task.objects.filter(
                pk__in=[task.pk for task in group],
                attempt=attempt,
                state__in=Move.ASSIGN.sources,
            )
            assert same.update(**changes) == len(group)
            for task in group:
                for field, value in changes.items():
                    setattr(task, field, value)
        rows.insert_all(
            [
                Attempt(
                    task=task,
                    number=task.attempt,
                    node=task.node,
                    incarnation=nodes[places[task.pk].node].incarnation,
                    gpus=list(places[task.pk].gpus),
                    assigned_at=moment,
                )
                for task in tasks
            ]
        )
        rows.insert_all(
            [
                TaskEvent(
                    task=task,
                    at=moment,
                    verb="assign",
                    state=task.state,
                    attempt=task.attempt,
                    message=f"On {places[task.pk].node}.",
                )
                for task in tasks
            ]
        )
    return tasks
