from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models, transaction
from django.db.models import Q

from registry import clock
from registry.models.model_version import Alias, ModelVersion
from registry.tally import merged


class Second(models.Model):
    """A version beside the one that an alias names: it answers a share, or is only compared.

    The row lasts until the alias moves; what is counted under it is of this pair alone.
    """

    alias = models.OneToOneField(Alias, on_delete=models.CASCADE, related_name="second")
    version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, related_name="seconds"
    )
    # Of all requests, from 0 to 1; null for a shadow, which answers none.
    weight = models.FloatField(null=True, blank=True)
    since = models.DateTimeField()
    figures = models.JSONField(default=dict)

    class Meta:
        ordering = ["pk"]
        verbose_name = "second version"
        constraints = [
            models.CheckConstraint(
                condition=Q(weight=None) | Q(weight__gt=0, weight__lt=1),
                name="second_weight_is_a_share",
            )
        ]

    def __str__(self) -> str:
        return f"{self.alias} beside {self.version}"

    @property
    def is_shadow(self) -> bool:
        return self.weight is None

    @classmethod
    def put(cls, alias: Alias, version: ModelVersion, weight: float | None) -> Second:
        """Set it beside what the alias names; call it in a transaction that moved the alias."""
        return cls.objects.create(
            alias=alias, version=version, weight=weight, since=clock.now()
        )

    @classmethod
    def note(cls, pk: int, figures: Mapping[str, Any]) -> None:
        """Add what a worker counted, unless the alias has moved since."""
        with transaction.atomic():
            row = cls.objects.select_for_update().filter(pk=pk).first()
            if row is not None:
                found = merged(row.figures, figures)
                cls.objects.filter(pk=pk).update(figures=found)
