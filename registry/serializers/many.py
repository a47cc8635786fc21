"""What may be asked of many tasks at once, and the answer."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from registry.serializers.tasks import StrictSerializer

MOST = 1000  # tasks of one request
NARROWING = ("state", "reason")
VALUE: dict[str, Any] = {"oneOf": [{"type": "string"}, {"type": "integer"}]}


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": {
            "oneOf": [*VALUE["oneOf"], {"type": "array", "items": VALUE}]
        },
        "description": "names and values as in GET /tasks; state or reason among them",
    }
)
class Names(serializers.Field[Any, Any, Any, Any]):
    """Names of the list's query with a value or several."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("must be an object")
        if not any(data.get(name) for name in NARROWING):
            text = (
                f"must name a {' or a '.join(NARROWING)}, so that it is not everything"
            )
            raise serializers.ValidationError(text)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class ManyRequest(StrictSerializer):
    """Which tasks: their ids, or what the list would show for these names."""

    ids = serializers.ListField(
        child=serializers.RegexField(r"^[0-9]{1,18}\Z"),
        min_length=1,
        max_length=MOST,
        required=False,
    )
    filter: Any = Names(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("filter" in attrs):
            text = "give either ids or filter"
            raise serializers.ValidationError({"ids": [text]})
        return attrs


class RetryManyRequest(ManyRequest):
    vars()["from"] = serializers.ChoiceField(
        choices=["checkpoint", "start"], default="checkpoint"
    )


class Refusal(serializers.Serializer[Any]):
    id = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class ManyAnswer(serializers.Serializer[Any]):
    done = serializers.ListField(child=serializers.CharField())
    refused = Refusal(many=True)
    more = serializers.BooleanField(help_text="more match; ask again")
