"""What a submission of any kind may say of its task."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from registry.models import Condition
from registry.serializers.tasks import LONGEST, StrictSerializer

IDS = {"type": "array", "items": {"type": "string"}, "maxItems": 1000}


@extend_schema_field(
    {
        "oneOf": [
            IDS,
            {
                "type": "object",
                "properties": dict.fromkeys(Condition.values, IDS),
                "additionalProperties": False,
            },
        ]
    }
)
class DependsOn(serializers.Field[Any, Any, Any, Any]):
    """Ids of tasks by how each must have ended; a plain list means afterok."""

    def to_internal_value(self, data: Any) -> dict[str, list[Any]]:
        if isinstance(data, list):
            data = {Condition.AFTEROK.value: data}
        if not isinstance(data, dict):
            text = "must be a list of ids, or an object of lists by condition"
            raise serializers.ValidationError(text)
        errors = {
            str(name)[:60]: ["must be a list of ids"]
            for name, ids in data.items()
            if not isinstance(ids, list)
        }
        if errors:
            raise serializers.ValidationError(errors)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class SubmitRequest(StrictSerializer):
    """The fields that every kind has in common; `registry.submission.common` reads them."""

    name = serializers.CharField(max_length=200, allow_blank=True, default="")
    description = serializers.CharField(max_length=10_000, allow_blank=True, default="")
    tags = serializers.ListField(
        child=serializers.CharField(max_length=60), max_length=50, default=list
    )
    priority = serializers.IntegerField(
        min_value=-1000,
        max_value=1000,
        default=0,
        help_text="higher comes first; above 100 for staff alone",
    )
    max_retries = serializers.IntegerField(min_value=0, max_value=20, required=False)
    time_limit = serializers.IntegerField(
        min_value=1, max_value=LONGEST, required=False, help_text="seconds"
    )
    soft_time_limit = serializers.IntegerField(
        min_value=1,
        max_value=LONGEST,
        required=False,
        help_text="seconds until it is warned, a script by SIGUSR1; less than time_limit",
    )
    hang_after = serializers.IntegerField(
        min_value=1,
        max_value=LONGEST,
        required=False,
        help_text="seconds without a sign of life after which it counts as hung",
    )
    depends_on: Any = DependsOn(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        soft, hard = attrs.get("soft_time_limit"), attrs.get("time_limit")
        if soft is not None and hard is not None and soft >= hard:
            text = f"must be less than time_limit, which is {hard}"
            raise serializers.ValidationError({"soft_time_limit": [text]})
        return attrs
