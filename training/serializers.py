from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry.serializers.tasks import ResourcesSerializer, StrictSerializer

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class TrainRequest(StrictSerializer):
    """What `POST /training/tasks` takes; `params` are checked by the recipe itself."""

    recipe = serializers.CharField(max_length=100)
    dataset = serializers.CharField(
        max_length=100, help_text="id of an upload, or a built-in name"
    )
    params: Any = serializers.DictField(default=dict)
    name = serializers.CharField(max_length=200, allow_blank=True, default="")
    description = serializers.CharField(max_length=10_000, allow_blank=True, default="")
    tags = serializers.ListField(
        child=serializers.CharField(max_length=60), max_length=50, default=list
    )
    lane = serializers.ChoiceField(choices=["cpu", "gpu", "auto"], default="auto")
    resources = ResourcesSerializer(required=False)
    priority = serializers.IntegerField(min_value=-1000, max_value=1000, default=0)
    max_retries = serializers.IntegerField(min_value=0, max_value=20, required=False)
    time_limit = serializers.IntegerField(
        min_value=1, max_value=366 * 24 * 3600, required=False, help_text="seconds"
    )
    model_name = serializers.RegexField(
        NAME,
        required=False,
        help_text="the name to register under; default the recipe's",
    )


class RecipeShape(serializers.Serializer[Any]):
    """A recipe; `params`, `inputs` and `outputs` are JSON Schemas."""

    name = serializers.CharField()
    summary = serializers.CharField()
    params = serializers.DictField()
    inputs = serializers.DictField()
    outputs = serializers.DictField()
    resources = ResourcesSerializer()


class PointShape(serializers.Serializer[Any]):
    step = serializers.IntegerField()
    value = serializers.FloatField()


class SeriesShape(serializers.Serializer[Any]):
    name = serializers.CharField()
    count = serializers.IntegerField(help_text="points before thinning")
    points = PointShape(many=True)


class MetricsShape(serializers.Serializer[Any]):
    series = SeriesShape(many=True)
