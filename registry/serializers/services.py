from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

from rest_framework import serializers

from registry.models import Service, ServiceEvent
from registry.models.service import BEAT_EVERY, LEASE
from registry.serializers.tasks import StrictSerializer

NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")
METADATA = 16 * 1024  # bytes as JSON


class MetadataField(serializers.JSONField):
    """An object of at most 16 KiB."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            raise serializers.ValidationError("must be an object")
        if len(json.dumps(data)) > METADATA:
            raise serializers.ValidationError(f"longer than {METADATA:,} bytes as JSON")
        return super().to_internal_value(data)


class Registration(StrictSerializer):
    """What an instance says of itself when it registers."""

    service_name = serializers.RegexField(
        NAME, help_text="letters, digits, dots, hyphens and underscores"
    )
    host = serializers.CharField(max_length=255, help_text="a host name or IP address")
    port = serializers.IntegerField(min_value=1, max_value=65535)
    version = serializers.CharField(max_length=60, allow_blank=True, default="")
    metadata = MetadataField(default=dict)
    health_path = serializers.RegexField(
        r"\A(/[\x21-\x7e]*)?\Z", max_length=200, allow_blank=True, default=""
    )
    weight = serializers.IntegerField(min_value=1, max_value=1000, default=1)
    incarnation = serializers.RegexField(
        r"\A[\x21-\x7e]*\Z", max_length=64, allow_blank=True, default=""
    )

    def validate_host(self, host: str) -> str:
        try:
            return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
        except ValueError:
            pass
        labels = host.removesuffix(".").split(".")
        if not all(LABEL.match(label) for label in labels):
            raise serializers.ValidationError("neither a host name nor an IP address")
        return host.lower()


class Registered(serializers.Serializer[Service]):
    """The answer to a registration; durations in seconds."""

    service_id = serializers.CharField(source="pk")
    incarnation = serializers.CharField()
    lease = serializers.SerializerMethodField()
    heartbeat_interval = serializers.SerializerMethodField()
    registered_at = serializers.DateTimeField()

    def get_lease(self, service: Service) -> int:
        return int(LEASE.total_seconds())

    def get_heartbeat_interval(self, service: Service) -> int:
        return int(BEAT_EVERY.total_seconds())


class Beat(StrictSerializer):
    """What a beat may tell; what it leaves out stays as it was."""

    metadata = MetadataField(required=False)
    connections = serializers.IntegerField(
        min_value=0, max_value=1_000_000, required=False
    )


class Change(StrictSerializer):
    """Take an instance out of service, or back into it."""

    state = serializers.ChoiceField(
        choices=[Service.State.UP, Service.State.OUT_OF_SERVICE]
    )


class ServiceSerializer(serializers.ModelSerializer[Service]):
    """An instance as every route shows it."""

    service_id = serializers.CharField(source="pk")

    class Meta:
        model = Service
        fields = [
            "service_id",
            "service_name",
            "host",
            "port",
            "version",
            "metadata",
            "health_path",
            "weight",
            "incarnation",
            "state",
            "connections",
            "registered_at",
            "beat_at",
        ]


class ServiceEventSerializer(serializers.ModelSerializer[ServiceEvent]):
    """One change of an instance's state, or its registration's end."""

    service_id = serializers.CharField(source="instance")

    class Meta:
        model = ServiceEvent
        fields = ["service_id", "service_name", "address", "at", "state", "message"]
