from __future__ import annotations

from django.db import models
from django.db.models import Q

from registry.states import FINAL, State


class Condition(models.TextChoices):
    """How the other task must end, in Slurm's words."""

    AFTEROK = "afterok"
    AFTERANY = "afterany"
    AFTERNOTOK = "afternotok"

    def is_met_by(self, state: str) -> bool:
        """Whether a task that ended in this final state meets it."""
        assert state in FINAL
        if self is Condition.AFTERANY:
            return True
        return (state == State.COMPLETED) == (self is Condition.AFTEROK)


class Dependency(models.Model):
    """One task waits for the end of another; `met` is None until that one has ended."""

    task = models.ForeignKey(
        "registry.Task", on_delete=models.CASCADE, related_name="dependencies"
    )
    on = models.ForeignKey(
        "registry.Task",
        null=True,
        on_delete=models.SET_NULL,
        related_name="dependents",
    )
    on_number = models.PositiveBigIntegerField()  # its id, also when it was deleted
    condition = models.CharField(max_length=12, choices=Condition.choices)
    met = models.BooleanField(null=True)

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(fields=["on"], condition=Q(met=None), name="dependency_open"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["task", "on_number", "condition"], name="dependency_once"
            ),
            models.CheckConstraint(
                condition=~Q(task=models.F("on")), name="dependency_not_on_itself"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.condition} {self.on_number}"
