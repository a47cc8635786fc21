from __future__ import annotations

from typing import Any

from django.db import models

from registry import clock


class Incident(models.Model):
    """What went wrong with a node and what was done about it: a line of the house's log.

    `kind` is rescue (found, released, failed ... in the summary) or orphan (processes ended).
    """

    at = models.DateTimeField(db_index=True)
    kind = models.CharField(max_length=12)
    node = models.CharField(max_length=255, blank=True)
    message = models.TextField()
    summary = models.JSONField(default=dict)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at:%Y-%m-%d %H:%M:%S}"

    @classmethod
    def record(
        cls, kind: str, message: str, *, node: str = "", summary: dict[str, Any]
    ) -> Incident:
        return cls.objects.create(
            at=clock.now(), kind=kind, message=message, node=node, summary=summary
        )
