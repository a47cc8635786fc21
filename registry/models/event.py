from __future__ import annotations

from django.db import models


class TaskEvent(models.Model):
    """One line of a task's timeline, written in the transaction of what it tells."""

    task = models.ForeignKey(
        "registry.Task", on_delete=models.CASCADE, related_name="events"
    )
    at = models.DateTimeField()
    verb = models.CharField(max_length=40)
    state = models.CharField(max_length=12)
    attempt = models.PositiveIntegerField()
    reason = models.CharField(max_length=40, blank=True)
    message = models.TextField(blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} {self.verb} -> {self.state}"
