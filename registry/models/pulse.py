from __future__ import annotations

from django.db import models

from registry import clock


class Pulse(models.Model):
    """When a regular duty was last done, so that readiness can tell whether it still is."""

    name = models.CharField(max_length=60, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.at}"

    @classmethod
    def record(cls, name: str) -> None:
        cls.objects.update_or_create(name=name, defaults={"at": clock.now()})
