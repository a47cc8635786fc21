from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q


class Reservation(models.Model):
    """A node, or resources on one node of a lane, kept for some users in a time window.

    Without a node it is on the node of the lane where it fits best; with no CPUs, GPUs
    and memory it is the whole node.
    """

    name = models.CharField(max_length=100, unique=True)
    lane = models.CharField(max_length=12)
    node = models.ForeignKey(
        "registry.Node", null=True, blank=True, on_delete=models.CASCADE
    )
    cpus = models.PositiveIntegerField(default=0)
    gpus = models.PositiveIntegerField(default=0)
    memory = models.PositiveBigIntegerField(default=0)  # bytes
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(db_index=True)
    users = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True)
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["starts_at", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")),
                name="reservation_ends_after_it_starts",
            ),
            models.CheckConstraint(
                condition=Q(node__isnull=False)
                | Q(cpus__gt=0)
                | Q(gpus__gt=0)
                | Q(memory__gt=0),
                name="reservation_of_something",
            ),
        ]

    def __str__(self) -> str:
        return self.name
