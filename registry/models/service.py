from __future__ import annotations

import datetime
import uuid
from typing import Any, Self

from django.db import models, transaction
from django.db.models import TextChoices

from registry import clock

LEASE = datetime.timedelta(minutes=5)
BEAT_EVERY = datetime.timedelta(seconds=30)
SUSPECT_AFTER = 2 * BEAT_EVERY
KEPT = datetime.timedelta(days=1)  # after the last beat of an instance that is not up
OWN = frozenset({"inference-line"})  # only Compass's processes are such services


class ServiceQuerySet(models.QuerySet["Service"]):
    def suspicious(self, moment: datetime.datetime) -> Self:
        """Those that missed two beats and are still thought to be up."""
        return self.filter(state=Service.State.UP, beat_at__lte=moment - SUSPECT_AFTER)

    def expired(self, moment: datetime.datetime) -> Self:
        """Those whose lease ran out, and nobody has said so yet."""
        alive = (Service.State.UP, Service.State.SUSPECT)
        return self.filter(state__in=alive, beat_at__lte=moment - LEASE)

    def forgotten(self, moment: datetime.datetime) -> Self:
        silent = (Service.State.DOWN, Service.State.OUT_OF_SERVICE)
        return self.filter(state__in=silent, beat_at__lte=moment - KEPT)


class Service(models.Model):
    """One running instance of a service, with a lease that its beats renew."""

    class State(TextChoices):
        UP = "up"
        SUSPECT = "suspect"  # missed two beats; asked only when no other is up
        DOWN = "down"  # its lease ran out; a beat brings it back
        OUT_OF_SERVICE = "out_of_service"  # taken out by hand, though it beats

    service_name = models.CharField(max_length=100)
    host = models.CharField(max_length=255)
    port = models.PositiveIntegerField()
    version = models.CharField(max_length=60, blank=True)
    metadata = models.JSONField(default=dict)
    health_path = models.CharField(max_length=200, blank=True)
    weight = models.PositiveIntegerField(default=1)
    incarnation = models.CharField(max_length=64)
    state = models.CharField(max_length=16, choices=State.choices)
    connections = models.PositiveIntegerField(default=0)  # as its last beat told
    given = models.PositiveIntegerField(default=0)  # times it was given out since then
    turn = models.PositiveBigIntegerField(default=0)  # its last place in the round
    registered_at = models.DateTimeField()
    beat_at = models.DateTimeField(db_index=True)

    objects = ServiceQuerySet.as_manager()

    class Meta:
        ordering = ["service_name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["service_name", "host", "port"], name="service_instance_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.service_name} at {self.host}:{self.port}"

    @classmethod
    def register(
        cls, *, service_name: str, host: str, port: int, **fields: Any
    ) -> tuple[Service, bool]:
        """The instance at that address, renewed, and whether it is a new one.

        Without an `incarnation` a known instance keeps its own, and a new one gets one.
        """
        moment = clock.now()
        fields |= {"connections": 0, "given": 0, "beat_at": moment}
        incarnation = fields.pop("incarnation", "")
        with transaction.atomic():
            service, is_new = cls.objects.select_for_update().get_or_create(
                service_name=service_name,
                host=host,
                port=port,
                defaults={
                    **fields,
                    "incarnation": incarnation or str(uuid.uuid4()),
                    "state": cls.State.UP,
                    "registered_at": moment,
                },
            )
            if is_new:
                service.note("Registered.", at=moment)
            else:
                fields["incarnation"] = incarnation or service.incarnation
                service._renew(fields, moment)
        return service, is_new

    def beat(self, **changes: Any) -> bool:
        """Renew the lease; False if the instance is no longer known."""
        moment = clock.now()
        with transaction.atomic():
            mine = Service.objects.filter(pk=self.pk)
            if mine.update(beat_at=moment, given=0, **changes) != 1:
                return False
            silent = mine.filter(state__in=(self.State.SUSPECT, self.State.DOWN))
            if silent.update(state=self.State.UP):
                self.refresh_from_db()
                self.note("It beats again.", at=moment)
            else:
                self.refresh_from_db()
        return True

    def put(self, state: State, message: str) -> None:
        """Take it out of service or back into it, by hand."""
        with transaction.atomic():
            if (
                Service.objects.filter(pk=self.pk)
                .exclude(state=state)
                .update(state=state)
            ):
                self.refresh_from_db()
                self.note(message)

    def deregister(self, message: str = "Deregistered.") -> None:
        with transaction.atomic():
            if Service.objects.filter(pk=self.pk).delete()[0]:
                self.note(message, state="deregistered")

    def note(
        self,
        message: str,
        *,
        at: datetime.datetime | None = None,
        state: str | None = None,
    ) -> None:
        """Append one line to the history."""
        ServiceEvent.objects.create(
            service_name=self.service_name,
            instance=self.pk,
            address=f"{self.host}:{self.port}",
            at=at or clock.now(),
            state=state or self.state,
            message=message,
        )

    def _renew(self, fields: dict[str, Any], moment: datetime.datetime) -> None:
        was, state = self.incarnation, self.state
        if state != self.State.OUT_OF_SERVICE:
            fields["state"] = self.State.UP
        if was != fields["incarnation"]:
            fields["registered_at"] = moment
        Service.objects.filter(pk=self.pk).update(**fields)
        self.refresh_from_db()
        if was != self.incarnation:
            self.note("Registered again, under a new incarnation.", at=moment)
        elif state != self.state:
            self.note("Registered again.", at=moment)


class ServiceEvent(models.Model):
    """One change of an instance's state; it outlives the instance."""

    service_name = models.CharField(max_length=100)
    instance = models.PositiveBigIntegerField(db_index=True)
    address = models.CharField(max_length=300)
    at = models.DateTimeField()
    state = models.CharField(max_length=16)
    message = models.TextField(blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} {self.address} {self.state}"
