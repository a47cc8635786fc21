from __future__ import annotations

import datetime
from typing import Self

from django.db import models
from django.db.models import Q

from registry.models import Node


class ShardQuerySet(models.QuerySet["Shard"]):
    def undone(self) -> Self:
        return self.filter(done_at=None)

    def open(self, moment: datetime.datetime) -> Self:
        """Those that nobody computes: never taken, given back, or their taker is gone."""
        lives = Node.objects.filter(stopped_at=None).values("incarnation")
        taken = Q(held_until__gt=moment, holder__in=lives)
        return self.undone().exclude(taken)


class Shard(models.Model):
    """A part of a batch: whoever computes it, and whether its file stands.

    `holder` is the incarnation of a node. Its rows are there while its batch is unfinished.
    """

    task = models.ForeignKey(
        "registry.Task", on_delete=models.CASCADE, related_name="shards"
    )
    number = models.PositiveIntegerField()
    holder = models.CharField(max_length=36, default="")
    held_until = models.DateTimeField(null=True)
    done_at = models.DateTimeField(null=True)
    failed = models.PositiveIntegerField(default=0)  # items without an answer

    objects = ShardQuerySet.as_manager()

    class Meta:
        ordering = ["task", "number"]
        constraints = [
            models.UniqueConstraint(fields=["task", "number"], name="shard_number_once")
        ]
        indexes = [
            models.Index(
                fields=["task", "number"],
                condition=Q(done_at=None),
                name="shard_undone",
            )
        ]

    def __str__(self) -> str:
        return f"shard {self.number} of task {self.task_id}"
