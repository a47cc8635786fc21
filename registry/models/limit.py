from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class UserLimit(models.Model):
    """What a user may hold at a time; the row without a user is for all who have none.

    None is no limit.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="limit",
    )
    tasks = models.PositiveIntegerField(null=True, blank=True)
    cpus = models.PositiveIntegerField(null=True, blank=True)
    gpus = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                models.Value(1), condition=Q(user=None), name="limit_one_default"
            ),
        ]

    def __str__(self) -> str:
        return f"Limit of {self.user or 'everybody else'}"
