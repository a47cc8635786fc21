from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from registry.errors import Problem
from registry.serializers.submission import SubmitRequest
from registry.serializers.tasks import StrictSerializer

MOST_ONLINE = 1000  # items of one request that is answered at once
MOST_IN_BATCH = 10_000
ADDRESS = "name, name:3 or name@alias; the newest model that fits if not named"


class Items(serializers.Field[list[Any], Any, list[Any], Any]):
    """A list of items; what each must hold, the model's signature says."""

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(**options)
        self.most = most

    def to_internal_value(self, data: Any) -> list[Any]:
        if not isinstance(data, list) or not data:
            raise serializers.ValidationError("must be a list of 1 item or more")
        if len(data) > self.most:
            text = f"{len(data)} items were sent; at most {self.most:,} are taken"
            raise Problem(
                "too_many_items", f"{text}.", errors={str(self.field_name): [text]}
            )
        return data

    def to_representation(self, value: list[Any]) -> list[Any]:
        return value


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "object"},
        "minItems": 1,
        "maxItems": MOST_ONLINE,
    }
)
class OnlineItems(Items):
    pass


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "object"},
        "minItems": 1,
        "maxItems": MOST_IN_BATCH,
    }
)
class BatchItems(Items):
    pass


class PredictRequest(StrictSerializer):
    model = serializers.CharField(max_length=200, required=False, help_text=ADDRESS)
    inputs = OnlineItems(MOST_ONLINE)


class PredictResponse(serializers.Serializer[Any]):
    model = serializers.CharField()
    version = serializers.IntegerField()
    outputs = serializers.ListField(
        child=serializers.DictField(), help_text="an output, or {error: {code, detail}}"
    )
    took = serializers.FloatField(help_text="seconds")


class BatchRequest(SubmitRequest):
    """One of `inputs`, `protein_ligand_pairs` and `dataset`."""

    model = serializers.CharField(max_length=200, required=False, help_text=ADDRESS)
    inputs = BatchItems(MOST_IN_BATCH, required=False)
    protein_ligand_pairs = BatchItems(MOST_IN_BATCH, required=False)
    dataset = serializers.CharField(
        max_length=100, required=False, help_text="a sealed upload of CSV or JSON lines"
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        forms = ("inputs", "protein_ligand_pairs", "dataset")
        if sum(form in attrs for form in forms) != 1:
            text = f"give one of {', '.join(forms)}"
            raise serializers.ValidationError({"inputs": [text]})
        return super().validate(attrs)


class BatchResponse(serializers.Serializer[Any]):
    results = serializers.ListField(child=serializers.DictField())
    total_count = serializers.IntegerField()
    success_count = serializers.IntegerField()
    failed_count = serializers.IntegerField()
    task_id = serializers.CharField()


class ModelRequest(StrictSerializer):
    model = serializers.CharField(
        max_length=200, help_text="name, name:3 or name@alias"
    )


class TellResponse(serializers.Serializer[Any]):
    model = serializers.CharField()
    version = serializers.IntegerField()
    workers = serializers.ListField(child=serializers.CharField())


class WorkerStatus(serializers.Serializer[Any]):
    name = serializers.CharField()
    state = serializers.CharField()
    beat_at = serializers.DateTimeField()
    running = serializers.ListField(child=serializers.CharField())
    bytes = serializers.IntegerField()
    budget = serializers.IntegerField(allow_null=True)
    capacity = serializers.IntegerField()
    hits = serializers.IntegerField()
    misses = serializers.IntegerField()
    loads = serializers.IntegerField()
    failures = serializers.IntegerField()
    evictions = serializers.IntegerField()
    models = serializers.ListField(child=serializers.DictField())


class StatusResponse(serializers.Serializer[Any]):
    workers = WorkerStatus(many=True)
    waiting = serializers.IntegerField(help_text="batch tasks that wait")
