from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q

if TYPE_CHECKING:
    from registry.models.task import Task  # noqa: F401


class Attempt(models.Model):
    """One try of a task on one node; its number is the fence of all its writes."""

    task = models.ForeignKey(
        "registry.Task", on_delete=models.CASCADE, related_name="attempts"
    )
    number = models.PositiveIntegerField()
    node = models.ForeignKey(
        "registry.Node", on_delete=models.PROTECT, related_name="attempts"
    )
    incarnation = models.CharField(max_length=36, blank=True)
    pid = models.PositiveIntegerField(null=True)
    pid_started = models.PositiveBigIntegerField(null=True)  # clock ticks since boot
    boot = models.CharField(max_length=36, blank=True)  # the kernel's boot id
    gpus = models.JSONField(default=list)  # indexes on the node
    assigned_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=12, blank=True)
    reason = models.CharField(max_length=40, blank=True)
    message = models.TextField(blank=True)
    exit_code = models.IntegerField(null=True)
    signal = models.PositiveSmallIntegerField(null=True)
    peak_memory = models.PositiveBigIntegerField(null=True)  # bytes
    log_start = models.PositiveBigIntegerField(null=True)  # byte offset
    log_end = models.PositiveBigIntegerField(null=True)

    class Meta:
        ordering = ["task", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["task", "number"], name="attempt_number_once"
            ),
            models.UniqueConstraint(
                fields=["task"],
                condition=Q(finished_at__isnull=True),
                name="attempt_one_live_per_task",
            ),
        ]

    def __str__(self) -> str:
        return self.celery_id

    @property
    def celery_id(self) -> str:
        return f"{self.task_id}-{self.number}"
