from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from registry.models import Model, ModelVersion
from registry.serializers.model_history import EventSerializer, RuleSerializer

SHOWN_EVENTS = 20


class VersionSerializer(serializers.ModelSerializer[ModelVersion]):
    """A version as every route shows it; `size` in bytes."""

    model = serializers.CharField(source="model.name")
    version = serializers.IntegerField(source="number")
    address = serializers.CharField(source="__str__")
    aliases = serializers.SerializerMethodField()
    task = serializers.CharField(source="task_id", allow_null=True)
    owner = serializers.CharField(
        source="owner.username", allow_null=True, default=None
    )
    links = serializers.SerializerMethodField()

    class Meta:
        model = ModelVersion
        fields = [
            "model", "version", "address", "aliases", "recipe", "params", "metrics",
            "signature", "lineage", "digest", "weights_sha256", "size", "engine", "task",
            "owner", "created_at", "links",
        ]  # fmt: skip

    def get_aliases(self, version: ModelVersion) -> list[str]:
        return [alias.name for alias in version.aliases.all()]

    def get_links(self, version: ModelVersion) -> dict[str, str]:
        home = f"/api/v1/models/{version.model.name}/versions/{version.number}"
        return {
            "self": home,
            "download": f"{home}/download",
            "lineage": f"{home}/lineage",
            "compare": f"{home}/compare",
        }


class VersionSummary(VersionSerializer):
    """A version without its parameters, signature and lineage."""

    class Meta:
        model = ModelVersion
        fields = [
            "version", "address", "aliases", "recipe", "metrics", "digest", "size", "task",
            "owner", "created_at", "links",
        ]  # fmt: skip


class ModelSerializer(serializers.ModelSerializer[Model]):
    """A model with its newest version and its aliases."""

    versions = serializers.IntegerField(source="version_count")
    latest = serializers.SerializerMethodField()
    aliases = serializers.SerializerMethodField()
    links = serializers.SerializerMethodField()

    class Meta:
        model = Model
        fields = [
            "name", "description", "versions", "latest", "aliases", "created_at", "links",
        ]  # fmt: skip

    def get_latest(self, model: Model) -> dict[str, Any] | None:
        newest: list[ModelVersion] = model.newest  # type: ignore[attr-defined]
        return dict(VersionSummary(newest[0]).data) if newest else None

    def get_aliases(self, model: Model) -> dict[str, int]:
        return {alias.name: alias.version.number for alias in model.aliases.all()}

    def get_links(self, model: Model) -> dict[str, str]:
        home = f"/api/v1/models/{model.name}"
        return {
            "self": home,
            "versions": f"{home}/versions",
            "history": f"{home}/history",
        }


class ModelDetail(ModelSerializer):
    """A model with its newest versions and events; all of them are under its links."""

    newest_versions = serializers.SerializerMethodField()
    promotion = serializers.SerializerMethodField()
    history = serializers.SerializerMethodField()

    class Meta(ModelSerializer.Meta):
        fields = [
            *ModelSerializer.Meta.fields, "newest_versions", "promotion", "history",
        ]  # fmt: skip

    def get_newest_versions(self, model: Model) -> list[dict[str, Any]]:
        rows = model.versions.select_related("model", "owner").prefetch_related(
            "aliases"
        )
        return list(VersionSummary(rows.order_by("-number")[:50], many=True).data)

    @extend_schema_field(RuleSerializer(allow_null=True))
    def get_promotion(self, model: Model) -> dict[str, Any] | None:
        rule = getattr(model, "rule", None)
        return None if rule is None else dict(RuleSerializer(rule).data)

    @extend_schema_field(EventSerializer(many=True))
    def get_history(self, model: Model) -> list[dict[str, Any]]:
        return list(EventSerializer(model.events.all()[:SHOWN_EVENTS], many=True).data)
