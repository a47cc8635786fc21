from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry.serializers.tasks import StrictSerializer


class NextInLine(serializers.Serializer[Any]):
    id = serializers.CharField()
    priority = serializers.IntegerField()
    estimated_start = serializers.DateTimeField(allow_null=True)


class LaneSerializer(serializers.Serializer[Any]):
    """A lane: `waiting` and `running` count tasks, `held` those that wait for others."""

    name = serializers.CharField()
    paused_at = serializers.DateTimeField(allow_null=True)
    note = serializers.CharField(allow_blank=True)
    waiting = serializers.IntegerField()
    held = serializers.IntegerField()
    running = serializers.IntegerField()
    nodes = serializers.ListField(child=serializers.CharField())
    next_in_line = NextInLine(many=True, help_text="the first ten by priority and age")


class PauseLaneRequest(StrictSerializer):
    note = serializers.CharField(max_length=200, allow_blank=True, default="")
