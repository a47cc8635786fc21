from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry import tally
from registry.models import Alias, ModelVersion, Second
from registry.serializers.tasks import StrictSerializer

LARGEST = 2**31 - 1
COMPARED = ("compared", "dropped", "items", "values", "different")


class SplitRequest(StrictSerializer):
    version = serializers.IntegerField(min_value=1, max_value=LARGEST)
    weight = serializers.FloatField(
        help_text="the share of all requests that it answers, above 0 and below 1"
    )

    def validate_weight(self, value: float) -> float:
        if not 0 < value < 1:
            raise serializers.ValidationError("must be above 0 and below 1")
        return value


class ShadowRequest(StrictSerializer):
    version = serializers.IntegerField(min_value=1, max_value=LARGEST)


class AliasRequest(StrictSerializer):
    """The version that it names, and perhaps a second one beside it."""

    version = serializers.IntegerField(min_value=1, max_value=LARGEST)
    split = SplitRequest(required=False)
    shadow = ShadowRequest(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "split" in attrs and "shadow" in attrs:
            text = "an alias has a split or a shadow, not both"
            raise serializers.ValidationError({"shadow": [text]})
        for name in ("split", "shadow"):
            if name in attrs and attrs[name]["version"] == attrs["version"]:
                text = f"version {attrs['version']} is the one that the alias names"
                raise serializers.ValidationError({name: {"version": [text]}})
        return attrs

    @property
    def beside(self) -> tuple[int, float | None] | None:
        """Number and weight of the second version; without a weight it is a shadow."""
        fields = self.validated_data
        second = fields.get("split") or fields.get("shadow")
        return None if second is None else (second["version"], second.get("weight"))


class AliasSerializer(serializers.ModelSerializer[Alias]):
    model = serializers.CharField(source="model.name")
    alias = serializers.CharField(source="name")
    version = serializers.IntegerField(source="version.number")
    address = serializers.CharField(source="__str__")
    split = serializers.SerializerMethodField(
        help_text="the second version, its weight, and what each has answered"
    )
    shadow = serializers.SerializerMethodField(
        help_text="the version that answers are compared with, and how they differ"
    )

    class Meta:
        model = Alias
        fields = ["model", "alias", "version", "address", "moved_at", "split", "shadow"]

    def get_split(self, alias: Alias) -> dict[str, Any] | None:
        second = second_of(alias)
        return None if second is None or second.is_shadow else split(second)

    def get_shadow(self, alias: Alias) -> dict[str, Any] | None:
        second = second_of(alias)
        return shadow(second) if second is not None and second.is_shadow else None


def second_of(alias: Alias) -> Second | None:
    return getattr(alias, "second", None)


def split(second: Second) -> dict[str, Any]:
    """The second version and its weight, with the answers of each version by number."""
    first = second.alias.version
    return {
        "version": second.version.number,
        "weight": second.weight,
        "since": second.since,
        "answered": _answered(second, first, second.version),
    }


def shadow(second: Second) -> dict[str, Any]:
    """How the second version's answers differ from those that were given; seconds of latency."""
    figures = second.figures.get("shadow") or {}
    items = figures.get("items", 0)
    found = {name: figures.get(name, 0) for name in COMPARED}
    errors = [figures.get(f"{side}_errors", 0) for side in ("first", "second")]
    shares = [one / items if items else None for one in errors]
    return {
        "version": second.version.number,
        "since": second.since,
        "answered": _answered(second, second.alias.version),
        **found,
        **_apart(figures),
        "outputs": {
            name: {"values": one["values"], **_apart(one)}
            for name, one in sorted((figures.get("outputs") or {}).items())
        },
        "error_share": dict(zip(("first", "second"), shares, strict=True)),
        "latency": {
            side: {name: one for name, one in tally.shown(figures.get(side) or {}).items()
                   if name in ("p50", "p99")}
            for side in ("first", "second")
        },
    }  # fmt: skip


def _apart(figures: dict[str, Any]) -> dict[str, float | None]:
    values = figures.get("values", 0)
    greatest = figures["greatest_difference"] if values else None
    # Rounding may put the mean of equal numbers above them.
    mean = min(figures["difference"] / values, greatest) if values else None
    return {"mean_absolute_difference": mean, "greatest_difference": greatest}


def _answered(second: Second, *versions: ModelVersion) -> dict[str, Any]:
    figures = second.figures.get("answered") or {}
    return {
        str(one.number): tally.shown(figures.get(str(one.pk)) or {}) for one in versions
    }
