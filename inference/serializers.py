from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from inference.fallback import MOST
from inference.given import UPLOADS
from inference.sinks import FORMATS
from registry.addresses import parse
from registry.errors import Problem
from registry.serializers.submission import SubmitRequest
from registry.serializers.tasks import StrictSerializer

MOST_ONLINE = 1000  # items of one request that is answered at once
MOST_IN_BATCH = 10_000
MOST_KEPT = 10_000
LONGEST_VALUE = 50_000  # characters
ADDRESS = "name, name:3 or name@alias; the newest model that fits if not named"
ADDRESSES = f"{ADDRESS}. Of a list, the first that can be served answers."
KEY = "requests with the same key are answered by the same side of an alias's split"
LONGEST = 200  # characters of an address or a key


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


_ADDRESS = {"type": "string", "maxLength": LONGEST}


@extend_schema_field(
    {
        "oneOf": [
            _ADDRESS,
            {"type": "array", "items": _ADDRESS, "minItems": 1, "maxItems": MOST},
        ]
    }
)
class Addresses(serializers.Field[Any, Any, Any, Any]):
    """One address, or a list of those to try in turn."""

    def to_internal_value(self, data: Any) -> Any:
        is_list = isinstance(data, list)
        if not all(isinstance(one, str) for one in (data if is_list else [data])):
            raise serializers.ValidationError("must be a string or a list of strings")
        one = serializers.CharField(max_length=LONGEST)
        if not is_list:
            return one.run_validation(data)
        if not 0 < len(data) <= MOST:
            text = f"a list must have 1 to {MOST} addresses"
            raise serializers.ValidationError(text)
        found = [one.run_validation(address) for address in data]
        for address in found:
            parse(address)
        return found

    def to_representation(self, value: Any) -> Any:
        return value


class PredictRequest(StrictSerializer):
    model = Addresses(required=False, help_text=ADDRESSES)
    inputs = OnlineItems(MOST_ONLINE)
    key = serializers.CharField(
        max_length=LONGEST, required=False, trim_whitespace=False, help_text=KEY
    )


class PassedOver(serializers.Serializer[Any]):
    model = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class PredictResponse(serializers.Serializer[Any]):
    model = serializers.CharField()
    version = serializers.IntegerField()
    fell_back = PassedOver(
        many=True, required=False, help_text="where a list of models was given"
    )
    outputs = serializers.ListField(
        child=serializers.DictField(), help_text="an output, or {error: {code, detail}}"
    )
    took = serializers.FloatField(help_text="seconds")


class BatchRequest(SubmitRequest):
    """`inputs`, `protein_ligand_pairs`, or uploads: `dataset`, or `ligands` and `proteins`."""

    model = Addresses(required=False, help_text=ADDRESSES)
    inputs = BatchItems(MOST_IN_BATCH, required=False)
    protein_ligand_pairs = BatchItems(MOST_IN_BATCH, required=False)
    dataset = serializers.CharField(
        max_length=100,
        required=False,
        help_text="a sealed upload: CSV, JSON lines, Parquet, SMILES or FASTA",
    )
    ligands = serializers.CharField(
        max_length=100, required=False, help_text="a sealed upload of SMILES"
    )
    proteins = serializers.CharField(
        max_length=100,
        required=False,
        help_text="a sealed upload in FASTA; with ligands: all with all",
    )
    protein = serializers.CharField(
        max_length=LONGEST_VALUE, required=False, help_text="that of every item"
    )
    ligand = serializers.CharField(
        max_length=LONGEST_VALUE, required=False, help_text="that of every item"
    )
    format = serializers.ChoiceField(
        FORMATS,
        required=False,
        help_text="of the results; that of the items if not named",
    )
    top_k = serializers.IntegerField(
        min_value=1,
        max_value=MOST_KEPT,
        required=False,
        help_text="keep so many results, the best first",
    )
    rank_by = serializers.CharField(
        max_length=100, required=False, help_text="the output that ranks them"
    )
    rank_order = serializers.ChoiceField(
        ("highest", "lowest"), required=False, help_text="which is best; highest"
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        inline = sum(form in attrs for form in ("inputs", "protein_ligand_pairs"))
        files = any(name in attrs for name in UPLOADS)
        if inline + files != 1:
            text = (
                "give one of inputs, protein_ligand_pairs, dataset, ligands, proteins"
            )
            raise serializers.ValidationError({"inputs": [text]})
        alone = {"rank_by": "top_k", "rank_order": "top_k"}
        if not files:
            alone |= {"protein": "dataset", "ligand": "dataset"}
        for name, other in alone.items():
            if name in attrs and other not in attrs:
                raise serializers.ValidationError({name: [f"goes with {other} only"]})
        return super().validate(attrs)


class BatchResponse(serializers.Serializer[Any]):
    results = serializers.ListField(child=serializers.DictField())
    total_count = serializers.IntegerField()
    success_count = serializers.IntegerField()
    failed_count = serializers.IntegerField()
    task_id = serializers.CharField()
    model = serializers.CharField(required=False)
    version = serializers.IntegerField(required=False)
    fell_back = PassedOver(
        many=True, required=False, help_text="where a list of models was given"
    )


class ModelRequest(StrictSerializer):
    model = serializers.CharField(
        max_length=200, help_text="name, name:3 or name@alias"
    )


class PreloadRequest(ModelRequest):
    pin = serializers.BooleanField(
        default=False, help_text="never evicted until `evict` is asked for"
    )
    wait = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=600,
        help_text="seconds to wait for the load; it goes on afterwards",
    )


class Outcome(serializers.Serializer[Any]):
    worker = serializers.CharField()
    outcome = serializers.CharField(
        help_text="loaded, was loaded, loading, evicted, in use, not loaded or failed"
    )
    seconds = serializers.FloatField(help_text="that the load took")
    code = serializers.CharField(required=False, help_text="where it failed")
    detail = serializers.CharField(required=False)


class TellResponse(serializers.Serializer[Any]):
    model = serializers.CharField()
    version = serializers.IntegerField()
    workers = Outcome(many=True)


class ModelStatus(serializers.Serializer[Any]):
    model = serializers.CharField()
    version_id = serializers.CharField()
    state = serializers.CharField(help_text="loading, ready or failed")
    bytes = serializers.IntegerField()
    pinned = serializers.BooleanField()
    in_use = serializers.BooleanField()
    users = serializers.IntegerField(help_text="batches that use it now")
    hits = serializers.IntegerField()
    misses = serializers.IntegerField()
    loads = serializers.IntegerField()
    failures = serializers.IntegerField()
    evictions = serializers.IntegerField()
    load_seconds = serializers.FloatField()


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
    models = ModelStatus(many=True)
    gone = serializers.ListField(
        child=serializers.DictField(), help_text="counts of models that have left"
    )
    is_live = serializers.BooleanField(help_text="told just now, not at its last beat")


class Answered(serializers.Serializer[Any]):
    since = serializers.DateTimeField(allow_null=True)
    count = serializers.IntegerField()
    errors = serializers.IntegerField(  # type: ignore[assignment]
        help_text="answers of 400 and above"
    )
    p50 = serializers.FloatField(allow_null=True, help_text="seconds")
    p99 = serializers.FloatField(allow_null=True, help_text="seconds")


class RequestsStatus(serializers.Serializer[Any]):
    raw = Answered(help_text="predictions answered by the front itself")
    django = Answered(help_text="predictions answered behind it")


class StatusResponse(serializers.Serializer[Any]):
    workers = WorkerStatus(many=True)
    requests = RequestsStatus()
    waiting = serializers.IntegerField(help_text="batch tasks that wait")
