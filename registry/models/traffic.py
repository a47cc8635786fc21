from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models, transaction

from registry import clock
from registry.tally import merged


class Traffic(models.Model):
    """How many requests one way in has answered, and how fast."""

    name = models.CharField(max_length=60, primary_key=True)
    since = models.DateTimeField()
    figures = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "traffic"

    def __str__(self) -> str:
        return self.name

    @classmethod
    def note(cls, name: str, figures: Mapping[str, Any]) -> None:
        """Add what a process counted since it last did."""
        with transaction.atomic():
            row, _ = cls.objects.select_for_update().get_or_create(
                name=name, defaults={"since": clock.now()}
            )
            found = merged(row.figures, figures)
            cls.objects.filter(pk=row.pk).update(figures=found)
