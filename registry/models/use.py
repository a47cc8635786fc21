from __future__ import annotations

import datetime
from typing import Any

from django.conf import settings
from django.db import models

HALF_LIFE = datetime.timedelta(days=1)


class Use(models.Model):
    """How much a user has had lately, in weighted CPU-seconds that halve each day."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE
    )
    seconds = models.FloatField(default=0.0)
    as_of = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s at {self.as_of}"

    def at(self, moment: datetime.datetime) -> float:
        """What is left of it by then; a clock that went back changes nothing."""
        passed = max(moment - self.as_of, datetime.timedelta())
        left: float = self.seconds * 0.5 ** (passed / HALF_LIFE)
        return left

    @classmethod
    def add(cls, owner: Any, seconds: float, moment: datetime.datetime) -> None:
        """Add to it, in the transaction of what used it."""
        fresh = {"seconds": 0.0, "as_of": moment}
        rows = cls.objects.select_for_update()
        row, _ = rows.get_or_create(owner_id=owner, defaults=fresh)
        cls.objects.filter(pk=row.pk).update(
            seconds=row.at(moment) + seconds, as_of=max(moment, row.as_of)
        )
