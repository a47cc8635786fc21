from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q, TextChoices


class ModelEvent(models.Model):
    """One entry of a model's history; never changed. `before` and `after` are version numbers."""

    class Verb(TextChoices):
        REGISTER = "register"
        IMPORT = "import"
        DELETE = "delete"
        MOVE = "move"  # an alias names another version
        REMOVE = "remove"  # an alias is gone
        PROMOTE = "promote"  # the rule moved its alias
        KEEP = "keep"  # the rule left its alias where it was
        RULE = "rule"  # the rule was set or removed

    # A version may be gone while its number still stands in the history.
    model = models.ForeignKey(
        "registry.Model", on_delete=models.CASCADE, related_name="events"
    )
    verb = models.CharField(max_length=10, choices=Verb.choices)
    alias = models.CharField(max_length=60, blank=True)
    before = models.PositiveIntegerField(null=True)
    after = models.PositiveIntegerField(null=True)
    by = models.CharField(max_length=150, blank=True)  # a user's name, if it was one
    text = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["model", "-id"], name="model_event_newest")]

    def __str__(self) -> str:
        return f"{self.verb} {self.alias or self.after or self.before}"


class PromotionRule(models.Model):
    """When a new version of a model takes an alias by itself."""

    class Direction(TextChoices):
        HIGHER = "higher"
        LOWER = "lower"

    model = models.OneToOneField(
        "registry.Model", on_delete=models.CASCADE, related_name="rule"
    )
    alias = models.CharField(max_length=60, default="champion")
    metric = models.CharField(max_length=200)
    direction = models.CharField(max_length=6, choices=Direction.choices)
    minimum_difference = models.FloatField(default=0.0)
    # Without one it was set by the operator, and holds for everybody's versions.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE
    )
    set_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(minimum_difference__gte=0), name="promotion_not_negative"
            )
        ]

    def __str__(self) -> str:
        text = f"{self.alias}: {self.direction} {self.metric}"
        if self.minimum_difference:
            text += f" by {self.minimum_difference:g} at least"
        return text
