from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry.addresses import check_alias
from registry.errors import Problem
from registry.models import ModelEvent, PromotionRule
from registry.serializers.tasks import StrictSerializer


class EventSerializer(serializers.ModelSerializer[ModelEvent]):
    """An entry of a model's history; `before` and `after` are version numbers."""

    class Meta:
        model = ModelEvent
        fields = ["verb", "alias", "before", "after", "by", "text", "at"]


class RuleSerializer(serializers.ModelSerializer[PromotionRule]):
    """When a new version takes an alias by itself."""

    owner = serializers.CharField(
        source="owner.username", allow_null=True, default=None
    )

    class Meta:
        model = PromotionRule
        fields = [
            "alias", "metric", "direction", "minimum_difference", "owner", "set_at",
        ]  # fmt: skip


class RuleRequest(StrictSerializer):
    metric = serializers.CharField(
        max_length=200, help_text="a figure of the metrics; inner ones as test.rmse"
    )
    direction = serializers.ChoiceField(
        PromotionRule.Direction.choices, help_text="which is better"
    )
    minimum_difference = serializers.FloatField(
        min_value=0, max_value=1e300, default=0.0
    )
    alias = serializers.CharField(max_length=60, default="champion")

    def validate_alias(self, value: str) -> str:
        try:
            return check_alias(value)
        except Problem as problem:
            raise serializers.ValidationError(problem.errors["alias"]) from None


class Figure(serializers.Serializer[Any]):
    version = serializers.FloatField(allow_null=True)
    other = serializers.FloatField(allow_null=True)
    difference = serializers.FloatField(allow_null=True)


class Compared(serializers.Serializer[Any]):
    model = serializers.CharField()
    version = serializers.IntegerField()
    address = serializers.CharField()
    digest = serializers.CharField()
    recipe = serializers.CharField()
    dataset = serializers.DictField(allow_null=True)
    created_at = serializers.DateTimeField()


class Comparison(serializers.Serializer[Any]):
    """Two versions; a difference is `version` less `other`."""

    version = Compared()
    other = Compared()
    metrics = serializers.DictField(child=Figure())
    params = serializers.DictField(help_text="those that differ")
    same_recipe = serializers.BooleanField()
    same_dataset = serializers.BooleanField(
        allow_null=True, help_text="by SHA-256; null where one is not known"
    )
    same_files = serializers.BooleanField()


class Lineage(serializers.Serializer[Any]):
    """Where a version came from, and what came after it."""

    version = serializers.CharField(help_text="its address")
    digest = serializers.CharField()
    weights_sha256 = serializers.CharField()
    recipe = serializers.CharField()
    params = serializers.DictField()
    task = serializers.DictField(
        allow_null=True, help_text="the training, if it is still there"
    )
    dataset = serializers.DictField(allow_null=True)
    seed = serializers.IntegerField(allow_null=True)
    code = serializers.CharField(help_text="SHA-256 of the recipe's source")
    versions = serializers.DictField(help_text="of Compass and the libraries")
    parent = serializers.DictField(  # type: ignore[assignment]
        allow_null=True, help_text="the version before it under this name"
    )
    children = serializers.ListField(
        child=serializers.CharField(), help_text="addresses of those that name it so"
    )
    origin = serializers.DictField(
        allow_null=True, help_text="what an imported archive says of itself"
    )
    aliases = serializers.ListField(child=serializers.CharField())
    owner = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
