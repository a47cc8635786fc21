from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry.serializers.submission import SubmitRequest
from registry.serializers.tasks import ResourcesSerializer

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class TrainRequest(SubmitRequest):
    """What `POST /training/tasks` takes; `params` are checked by the recipe itself."""

    recipe = serializers.CharField(max_length=100)
    dataset = serializers.CharField(
        max_length=100, help_text="id of an upload, or a built-in name"
    )
    params: Any = serializers.DictField(default=dict)
    lane = serializers.ChoiceField(choices=["cpu", "gpu", "auto"], default="auto")
    resources = ResourcesSerializer(required=False)
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
