from __future__ import annotations

import datetime
import uuid
from typing import Any, Self

from django.db import models, transaction

from registry import clock
from registry.resources import Resources
from registry.states import PLACED

SUSPECT_AFTER = datetime.timedelta(seconds=15)
LOST_AFTER = datetime.timedelta(seconds=30)
BEAT_EVERY = datetime.timedelta(seconds=5)


class NodeQuerySet(models.QuerySet["Node"]):
    def up(self, moment: datetime.datetime) -> Self:
        """Those that may be given work: they beat lately and were not stopped."""
        return self.filter(stopped_at=None, beat_at__gt=moment - SUSPECT_AFTER)

    def lost(self, moment: datetime.datetime) -> Self:
        return self.filter(stopped_at=None, beat_at__lte=moment - LOST_AFTER)


class Node(models.Model):
    """A worker process that offers its host's resources on one lane."""

    name = models.CharField(max_length=255, unique=True)  # LANE@HOST
    lane = models.CharField(max_length=12)
    incarnation = models.CharField(max_length=36)
    cpus = models.PositiveIntegerField()
    memory = models.PositiveBigIntegerField()  # bytes
    gpus = models.JSONField(default=list)  # [{index, name, memory}]
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    registered_at = models.DateTimeField()
    beat_at = models.DateTimeField(db_index=True)
    stopped_at = models.DateTimeField(null=True, blank=True)
    draining = models.BooleanField(default=False)
    drain_note = models.CharField(max_length=200, blank=True)
    status = models.JSONField(default=dict, blank=True)  # what the lane tells of itself

    objects = NodeQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def register(cls, name: str, **fields: Any) -> Node:
        """Begin a new life of the node; what its earlier life held is given back.

        Call it only when no process of the earlier life is left.
        """
        moment = clock.now()
        with transaction.atomic():
            node, _ = cls.objects.update_or_create(
                name=name,
                defaults={
                    **fields,
                    "lane": name.partition("@")[0],
                    "incarnation": str(uuid.uuid4()),
                    "registered_at": moment,
                    "beat_at": moment,
                    "stopped_at": None,
                },
            )
            node.give_back("node_lost", f"{name} came back under a new incarnation.")
        return node

    @property
    def queue(self) -> str:
        return self.name.replace("@", ".", 1)

    @property
    def capacity(self) -> Resources:
        return Resources(self.cpus, len(self.gpus), self.memory)

    def condition(self, moment: datetime.datetime) -> str:
        """One of up, draining, suspect, lost, stopped."""
        if self.stopped_at:
            return "stopped"
        silent = moment - self.beat_at
        if silent >= LOST_AFTER:
            return "lost"
        if silent >= SUSPECT_AFTER:
            return "suspect"
        return "draining" if self.draining else "up"

    def beat(self) -> bool:
        """Show that this incarnation lives; False if another one took its name."""
        mine = Node.objects.filter(pk=self.pk, incarnation=self.incarnation)
        return mine.update(beat_at=clock.now()) == 1

    def stop(self) -> None:
        """Leave in good order; a beat by a new incarnation is not touched."""
        mine = Node.objects.filter(pk=self.pk, incarnation=self.incarnation)
        mine.update(stopped_at=clock.now())

    def give_back(self, reason: str, message: str) -> int:
        """Release everything placed here; the number of tasks released or ended."""
        from registry.models.task import Stale, Task

        count = 0
        for task in Task.objects.filter(node=self, state__in=PLACED).order_by("pk"):
            try:
                task.release(reason, message)
                count += 1
            except Stale:
                continue
        return count
