from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import F

from registry import clock, promotion
from registry.errors import Problem
from registry.models.model_event import ModelEvent, PromotionRule


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

    def lock(self) -> None:
        """Let nobody else register, delete or move an alias here until the transaction is over."""
        Model.objects.select_for_update(no_key=True).get(pk=self.pk)

    def register(
        self, *, verb: str = "register", why: str = "", **fields: Any
    ) -> ModelVersion:
        """Add the next version, and let the rule look at it; call it in a transaction."""
        # The UPDATE locks the row, so that two registrations do not take one number.
        Model.objects.filter(pk=self.pk).update(last_number=F("last_number") + 1)
        self.refresh_from_db(fields=["last_number"])
        parent = self.versions.order_by("-number").first()
        told = parent and {"address": str(parent), "digest": parent.digest}
        version = self.versions.create(
            number=self.last_number,
            created_at=clock.now(),
            **{**fields, "lineage": {"parent": told, **fields.get("lineage", {})}},
        )
        by = version.owner.get_username() if version.owner else ""
        self.note(verb, after=version.number, by=by, text=why)
        promotion.apply(self, version)
        return version

    def point(
        self,
        alias: str,
        version: ModelVersion,
        *,
        by: str = "",
        why: str = "",
        verb: str = "move",
    ) -> Alias:
        """Make the alias name that version alone from now on, with an entry in the history."""
        with transaction.atomic():
            self.lock()
            rows = self.aliases.filter(name=alias)
            before = rows.values_list("version__number", flat=True).first()
            # Gone since it was looked up: the foreign key would only tell at the commit.
            if not ModelVersion.objects.filter(pk=version.pk).exists():
                raise Problem("unknown_model", f"{version} was deleted.")
            row, _ = self.aliases.update_or_create(
                name=alias, defaults={"version": version, "moved_at": clock.now()}
            )
            if (second := getattr(row, "second", None)) is not None:
                second.delete()
            if before != version.number:
                self.note(
                    verb, alias=alias, before=before, after=version.number,
                    by=by, text=why,
                )  # fmt: skip
        return row

    def remove(self, alias: Alias, *, by: str = "") -> None:
        """Let the alias name nothing any more, with an entry in the history."""
        with transaction.atomic():
            self.lock()
            rows = self.aliases.filter(pk=alias.pk)
            before = rows.values_list("version__number", flat=True).first()
            if before is not None:
                rows.delete()
                self.note("remove", alias=alias.name, before=before, by=by)

    def set_rule(self, *, owner: Any = None, by: str = "", **asked: Any) -> Any:
        """Let new versions take an alias by themselves when they are better."""
        with transaction.atomic():
            self.lock()
            rule, _ = PromotionRule.objects.update_or_create(
                model=self, defaults={**asked, "owner": owner, "set_at": clock.now()}
            )
            self.note("rule", alias=rule.alias, by=by, text=f"{rule}.")
        return rule

    def remove_rule(self, *, by: str = "") -> None:
        with transaction.atomic():
            self.lock()
            rows = PromotionRule.objects.filter(model=self)
            if rule := rows.first():
                rows.delete()
                text = "The rule was removed."
                self.note("rule", alias=rule.alias, by=by, text=text)

    def note(self, verb: str, **about: Any) -> ModelEvent:
        """Add to the history."""
        return self.events.create(verb=verb, at=clock.now(), **about)


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
