from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import F

from registry import clock


class Model(models.Model):
    """A name under which versions stand."""

    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    last_number = models.PositiveIntegerField(default=0)  # numbers are not used again
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def register(self, **fields: Any) -> ModelVersion:
        """Add the next version; call it in a transaction."""
        # The UPDATE locks the row, so that two registrations do not take one number.
        Model.objects.filter(pk=self.pk).update(last_number=F("last_number") + 1)
        self.refresh_from_db(fields=["last_number"])
        return self.versions.create(
            number=self.last_number, created_at=clock.now(), **fields
        )

    def point(self, alias: str, version: ModelVersion) -> Alias:
        """Make the alias name that version alone from now on."""
        with transaction.atomic():
            row, _ = self.aliases.update_or_create(
                name=alias, defaults={"version": version, "moved_at": clock.now()}
            )
            if (second := getattr(row, "second", None)) is not None:
                second.delete()
        return row


class ModelVersion(models.Model):
    """An immutable model directory in the store, with where it came from."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    digest = models.CharField(max_length=64, db_index=True)  # of the directory
    weights_sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField()  # bytes
    recipe = models.CharField(max_length=100)
    params = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict)
    signature = models.JSONField(default=dict)
    lineage = models.JSONField(default=dict)
    # A deleted training leaves its model; the lineage still names it.
    task = models.OneToOneField(
        "registry.Task",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="model_version",
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL
    )
    created_at = models.DateTimeField()
    # Name, batch and figures of the engine that serves it best; null until it is measured.
    engine = models.JSONField(null=True, blank=True)
    tuning_at = models.DateTimeField(
        null=True, blank=True
    )  # since when one measures it

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "number"], name="model_version_number_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model.name}:{self.number}"


class Alias(models.Model):
    """A movable name of one version, as in `name@champion`."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=60)
    version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, related_name="aliases"
    )
    moved_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["model", "name"], name="alias_name_once")
        ]

    def __str__(self) -> str:
        return f"{self.model.name}@{self.name}"
