from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from django.db import models, transaction

from registry import clock, rows
from registry.crashpoints import crashpoint
from registry.models.incident import Incident
from registry.resources import Resources
from registry.states import PLACED

if TYPE_CHECKING:
    from registry.models.attempt import Attempt
    from registry.models.task import Task

SUSPECT_AFTER = datetime.timedelta(seconds=15)
LOST_AFTER = datetime.timedelta(seconds=30)
BEAT_EVERY = datetime.timedelta(seconds=5)
BEAT = "UPDATE registry_node SET beat_at = {moment} {quick} WHERE id = %s AND incarnation = %s"


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
    gpus = models.JSONField(
        default=list
    )  # [{index, name, uuid, memory, free, busy}], see registry.devices
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
    def register(
        cls,
        name: str,
        *,
        is_gone: Callable[[Attempt], bool] = lambda attempt: True,
        **fields: Any,
    ) -> Node:
        """Begin a new life of the node, and give back what its earlier life held.

        The earlier life is fenced first, so that it begins nothing more; then each attempt
        whose process `is_gone` is given back. The others wait until they are silent.
        """
        moment = clock.now()
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
        crashpoint("registered-before-give-back")
        said = f"{name} came back under a new incarnation."
        if count := node.give_back("node_lost", said, is_gone=is_gone):
            text = f"{said} Given back what its earlier life held: {count}."
            Incident.record("rescue", text, node=name, summary={"found": count})
        crashpoint("given-back-before-joining")
        return node

    @property
    def queue(self) -> str:
        return self.name.replace("@", ".", 1)

    @property
    def capacity(self) -> Resources:
        return Resources(self.cpus, len(self.gpus), self.memory)

    @property
    def short(self) -> str:
        """What its host has too little of, said of it; nothing is placed there then."""
        return str(self.status.get("short", ""))

    def condition(self, moment: datetime.datetime, *, is_empty: bool = False) -> str:
        """One of up, draining, drained (when it is empty), suspect, lost, stopped."""
        if self.stopped_at:
            return "stopped"
        silent = moment - self.beat_at
        if silent >= LOST_AFTER:
            return "lost"
        if silent >= SUSPECT_AFTER:
            return "suspect"
        if self.draining:
            return "drained" if is_empty else "draining"
        return "up"

    def beat(self, **changes: Any) -> bool:
        """Show that this incarnation lives, with what changed: gpus, status.

        False if another one took its name.
        """
        if not changes:
            moment, values = clock.in_sql()
            sql = BEAT.format(moment=moment, quick=rows.quick_commit())
            return rows.write(sql, *values, self.pk, self.incarnation) == 1
        mine = Node.objects.filter(pk=self.pk, incarnation=self.incarnation)
        return mine.update(beat_at=clock.now(), **changes) == 1

    def stop(self) -> None:
        """Leave in good order; a beat by a new incarnation is not touched."""
        mine = Node.objects.filter(pk=self.pk, incarnation=self.incarnation)
        mine.update(stopped_at=clock.now())

    def give_back(
        self,
        reason: str,
        message: str,
        *,
        is_gone: Callable[[Attempt], bool] = lambda attempt: True,
        tasks: Iterable[Task] | None = None,
    ) -> int:
        """Release what is placed here, or those of it; the number released or ended.

        With the row held, so that no process can be recorded or begin in between.
        """
        from registry.models.task import Stale, Task

        count = 0
        if tasks is None:
            tasks = Task.objects.filter(node=self, state__in=PLACED).order_by("pk")
        for task in tasks:
            here = Task.objects.filter(
                pk=task.pk, attempt=task.attempt, node=self, state__in=PLACED
            )
            try:
                with transaction.atomic():
                    held = here.select_for_update(of=("self",)).first()
                    if held is None or not is_gone(
                        held.attempts.select_related("task").get(number=held.attempt)
                    ):
                        continue
                    held.release(reason, message)
                    count += 1
            except Stale:
                continue
        return count
