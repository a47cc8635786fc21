from __future__ import annotations

from django.db import models


class Metric(models.Model):
    """One point of a task's series; a step has one value, whichever attempt gave it."""

    task = models.ForeignKey(
        "registry.Task", on_delete=models.CASCADE, related_name="points"
    )
    name = models.CharField(max_length=60)
    step = models.PositiveBigIntegerField()
    value = models.FloatField()
    attempt = models.PositiveIntegerField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["task", "name", "step"]
        constraints = [
            models.UniqueConstraint(
                fields=["task", "name", "step"], name="metric_one_value_a_step"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name}[{self.step}] = {self.value}"
