from __future__ import annotations

import datetime
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q, TextChoices

from registry import clock

STALLED_AFTER = datetime.timedelta(seconds=30)


class UploadQuerySet(models.QuerySet["Upload"]):
    def visible_to(self, user: Any) -> Self:
        return self if user.is_staff else self.filter(owner=user)

    def receiving(self, moment: datetime.datetime) -> Self:
        """Those that hold a slot: bytes came lately."""
        fresh = moment - STALLED_AFTER
        return self.filter(state=Upload.State.RECEIVING, touched_at__gt=fresh)

    def stalled(self, moment: datetime.datetime) -> Self:
        fresh = moment - STALLED_AFTER
        return self.filter(state=Upload.State.RECEIVING, touched_at__lte=fresh)

    def naming_objects(self) -> Self:
        """Those whose file stands in the store."""
        return self.filter(state__in=(Upload.State.SEALING, Upload.State.SEALED))


class Upload(models.Model):
    """A file that a user gave: received, checked in the background, then sealed."""

    class State(TextChoices):
        RECEIVING = "receiving"  # holds a slot
        SEALING = "sealing"  # whole and in the store; being checked
        SEALED = "sealed"
        FAILED = "failed"  # the record alone is left, and that expires

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    filename = models.CharField(max_length=255)
    content_type = models.CharField(max_length=100, blank=True)
    size = models.PositiveBigIntegerField(null=True)  # bytes; null while unknown
    received = models.PositiveBigIntegerField(default=0)  # bytes
    sha256 = models.CharField(max_length=64, blank=True, db_index=True)
    state = models.CharField(max_length=12, choices=State.choices, db_index=True)
    reason = models.CharField(max_length=40, blank=True)
    message = models.TextField(blank=True)
    file_count = models.PositiveIntegerField(null=True)
    rows = models.PositiveBigIntegerField(null=True)
    columns = models.JSONField(default=list)
    preview = models.JSONField(default=list)
    tries = models.PositiveSmallIntegerField(default=0)  # times that sealing began
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="uploads"
    )
    created_at = models.DateTimeField()
    touched_at = models.DateTimeField()  # the last sign of life of who works on it
    expires_at = models.DateTimeField(null=True)

    objects = UploadQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(state__in=("sealing", "sealed")) | ~Q(sha256=""),
                name="upload_in_store_has_sha256",
            ),
            models.CheckConstraint(
                condition=~Q(state="failed") | (~Q(reason="") & ~Q(message="")),
                name="upload_failed_says_why",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.filename} ({self.state})"

    def touch(self, **changes: Any) -> bool:
        """Show that somebody works on it; False if it was given up meanwhile."""
        moment = clock.now()
        mine = Upload.objects.filter(pk=self.pk, state=self.state)
        if self.state == Upload.State.RECEIVING:
            # A slot that was silent for too long may be another's by now.
            mine = mine.receiving(moment)
        return mine.update(touched_at=moment, **changes) == 1

    def move(self, state: State, **changes: Any) -> bool:
        """Change the state if the row is still in the one that was seen."""
        moment = clock.now()
        seen = Upload.objects.filter(pk=self.pk, state=self.state)
        if seen.update(state=state, touched_at=moment, **changes) != 1:
            return False
        self.refresh_from_db()
        return True

    def fail(self, reason: str, message: str) -> bool:
        """End it; the record says why until it expires."""
        kept = datetime.timedelta(hours=settings.ENVIRONMENT.upload_expiry_hours)
        return self.move(
            Upload.State.FAILED,
            reason=reason,
            message=message,
            expires_at=clock.now() + kept,
        )
