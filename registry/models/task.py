from __future__ import annotations

import datetime
import math
from functools import cache
from typing import Any, Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q

from registry import clock, rows
from registry.kinds import KINDS, LANES
from registry.models.change import Stale
from registry.models.life import Life
from registry.resources import Resources
from registry.states import FINAL, LIVE, PLACED, REASONS, State

__all__ = ["Stale", "Task"]


REMEMBERED = 20  # past runs that tell how long the next one takes


class TaskQuerySet(models.QuerySet["Task"]):
    def in_line(self, moment: datetime.datetime) -> Self:
        """Those that may be placed now, the first in line first."""
        ready = Q(not_before=None) | Q(not_before__lte=moment)
        rows = self.filter(ready, state=State.PENDING, held=False, array_size=None)
        return rows.order_by("-priority", "pk")

    def usual_duration(self, owner: Any, template: str) -> int | None:
        """The 95th percentile of this user's latest runs of it, in seconds; None if none."""
        took = sorted(
            (finished_at - started_at).total_seconds()
            for _, started_at, finished_at in _past().lists(owner.pk, template)
            if started_at and finished_at
        )
        return math.ceil(took[(len(took) * 19 - 1) // 20]) if took else None

    def live(self) -> Self:
        return self.filter(state__in=LIVE)

    def placed(self) -> Self:
        return self.filter(state__in=PLACED)

    def visible_to(self, user: Any) -> Self:
        return self if user.is_staff else self.filter(owner=user)

    def submit(self, *, kind: str, **fields: Any) -> Task:
        """Accept a task: its row and first event in one transaction."""
        fields.setdefault("max_retries", KINDS[kind].max_retries)
        if template := fields.get("template", ""):
            fields.setdefault(
                "expected", self.usual_duration(fields["owner"], template)
            )
        moment = clock.now()
        with transaction.atomic(savepoint=False):
            task = self.model(
                kind=kind, state=State.PENDING, created_at=moment, **fields
            )
            rows.insert(task)
            task.note("submit", at=moment)
        return task


class Task(Life):
    """One piece of work of any kind, and the only truth about it.

    States change by the verbs of Life alone; see docs/lifecycle.md.
    """

    kind = models.CharField(max_length=12)
    name = models.CharField(max_length=200, blank=True)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=list, blank=True)
    params = models.JSONField(default=dict)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="tasks"
    )

    lane = models.CharField(max_length=12)
    cpus = models.PositiveIntegerField(default=1)
    gpus = models.PositiveIntegerField(default=0)
    memory = models.PositiveBigIntegerField(default=0)  # bytes
    gpu_memory = models.PositiveBigIntegerField(
        default=0
    )  # bytes that each GPU must have
    priority = models.IntegerField(default=0)
    time_limit = models.PositiveIntegerField(null=True, blank=True)  # seconds
    soft_time_limit = models.PositiveIntegerField(null=True, blank=True)  # seconds
    hang_after = models.PositiveIntegerField(null=True, blank=True)  # seconds
    template = models.CharField(
        max_length=120, blank=True
    )  # what its runs have in common
    expected = models.PositiveIntegerField(null=True)  # seconds, by past runs

    held = models.BooleanField(default=False)  # waits for a task that it depends on
    array = models.ForeignKey(
        "self", null=True, on_delete=models.CASCADE, related_name="elements"
    )
    array_index = models.PositiveIntegerField(null=True)
    array_size = models.PositiveIntegerField(
        null=True
    )  # of a head, which is never placed
    array_limit = models.PositiveIntegerField(null=True)  # elements placed at a time

    state = models.CharField(max_length=12, choices=State.choices, db_index=True)
    attempt = models.PositiveIntegerField(default=0)
    node = models.ForeignKey(
        "registry.Node", null=True, on_delete=models.PROTECT, related_name="tasks"
    )
    reason = models.CharField(max_length=40, blank=True)
    message = models.TextField(blank=True)
    max_retries = models.PositiveIntegerField(default=0)
    retries = models.PositiveIntegerField(default=0)
    releases = models.PositiveIntegerField(default=0)
    resume_from = models.CharField(max_length=12, default="checkpoint")
    not_before = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    pause_requested_at = models.DateTimeField(null=True)
    release_requested_at = models.DateTimeField(null=True)

    progress = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict)  # the latest value by name
    result = models.JSONField(default=dict)
    waiting_for = models.JSONField(default=list)
    estimated_start = models.DateTimeField(null=True)

    created_at = models.DateTimeField()
    assigned_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    beat_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(
                fields=["lane", "owner", "-priority", "id"],
                condition=Q(state=State.PENDING, held=False, array_size=None),
                name="task_in_line",
            ),
            models.Index(
                fields=["array", "id"],
                condition=Q(array__isnull=False),
                name="task_of_array",
            ),
            models.Index(
                fields=["id"],
                condition=Q(array_size__isnull=False, finished_at=None),
                name="task_open_array",
            ),
            models.Index(
                fields=["owner", "template", "-id"],
                condition=Q(state=State.COMPLETED),
                name="task_usual_duration",
            ),
            models.Index(
                fields=["node"], condition=Q(state__in=PLACED), name="task_placed"
            ),
            # Lists, newest first, leave the elements of arrays out.
            *(
                models.Index(
                    fields=[*fields, "-id"],
                    condition=Q(array=None),
                    name=f"task_listed{''.join(f'_{name}' for name in fields)}",
                )
                for fields in ([], ["owner"], ["state"], ["kind"], ["reason"])
            ),
            models.Index(fields=["created_at", "id"], name="task_created"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=State.values), name="task_state_known"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=list(KINDS)), name="task_kind_known"
            ),
            models.CheckConstraint(condition=Q(lane__in=LANES), name="task_lane_known"),
            models.CheckConstraint(
                condition=Q(state__in=FINAL, finished_at__isnull=False)
                | (~Q(state__in=FINAL) & Q(finished_at__isnull=True)),
                name="task_final_iff_finished",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=PLACED)
                | Q(array_size__isnull=False)
                | Q(node__isnull=False, assigned_at__isnull=False, attempt__gt=0),
                name="task_placed_has_node",
            ),
            models.CheckConstraint(
                condition=~Q(state=State.RUNNING)
                | Q(array_size__isnull=False)
                | Q(started_at__isnull=False, beat_at__isnull=False),
                name="task_running_has_started",
            ),
            models.CheckConstraint(
                condition=~Q(state=State.FAILED) | (~Q(reason="") & ~Q(message="")),
                name="task_failed_says_why",
            ),
            models.CheckConstraint(
                condition=Q(array_size=None) | Q(node=None, array=None),
                name="task_head_is_nowhere",
            ),
            models.UniqueConstraint(
                fields=["array", "array_index"], name="task_array_index_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk} ({self.state})"

    @property
    def celery_id(self) -> str:
        return f"{self.pk}-{self.attempt}"

    @property
    def resources(self) -> Resources:
        return Resources(self.cpus, self.gpus, self.memory, self.gpu_memory)

    @property
    def is_head(self) -> bool:
        """Whether it stands for an array and is never placed itself."""
        return self.array_size is not None

    @property
    def asked(self) -> dict[str, Any]:
        """What its kind was asked for; an element's stands in the head of its array."""
        params: dict[str, Any] = (self.array or self).params
        return params

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def hint(self) -> str:
        because = REASONS.get(self.reason)
        return because.hint if because else ""


@cache
def _past() -> rows.Found[Task]:
    return rows.Found(
        Task,
        ["started_at", "finished_at"],
        "WHERE owner_id = %s AND template = %s AND state = 'completed'"
        f" ORDER BY id DESC LIMIT {REMEMBERED}",
    )
