from __future__ import annotations

from django.db import models


class Lane(models.Model):
    """What an operator said of a lane; a lane without a row runs."""

    name = models.CharField(max_length=12, primary_key=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.name

    @property
    def sentence(self) -> str:
        """Why nothing starts on it; empty if it runs."""
        if self.paused_at is None:
            return ""
        why = f": {self.note.rstrip('.')}" if self.note else ""
        since = f"{self.paused_at:%Y-%m-%d %H:%M} UTC"
        return f"The lane {self.name} was paused at {since}{why}."
