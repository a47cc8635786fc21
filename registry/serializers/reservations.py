from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry.lanes import NAMES
from registry.models import Reservation
from registry.reservations import state
from registry.serializers.tasks import StrictSerializer

NAME = r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}\Z"


class ReservedAmounts(StrictSerializer):
    """All zero is the whole node."""

    cpus = serializers.IntegerField(min_value=0, max_value=4096, required=False)
    gpus = serializers.IntegerField(min_value=0, max_value=64, required=False)
    memory = serializers.IntegerField(
        min_value=0, max_value=2**50, required=False, help_text="bytes"
    )


class ReservationChange(StrictSerializer):
    name = serializers.RegexField(NAME, required=False)
    lane = serializers.ChoiceField(choices=NAMES, required=False)
    node = serializers.CharField(max_length=255, allow_null=True, required=False)
    resources = ReservedAmounts(required=False)
    starts_at = serializers.DateTimeField(required=False, help_text="default now")
    ends_at = serializers.DateTimeField(required=False)
    users = serializers.ListField(
        child=serializers.CharField(max_length=150),
        max_length=1000,
        required=False,
        help_text="names of who may use it; nobody, if empty",
    )
    note = serializers.CharField(max_length=200, allow_blank=True, required=False)


class ReservationRequest(ReservationChange):
    name = serializers.RegexField(NAME)
    ends_at = serializers.DateTimeField()


class ReservationSerializer(serializers.ModelSerializer[Reservation]):
    id = serializers.CharField(source="pk")
    node = serializers.CharField(source="node.name", allow_null=True, default=None)
    resources = serializers.SerializerMethodField()
    users: Any = serializers.SlugRelatedField("username", many=True, read_only=True)
    state = serializers.SerializerMethodField(help_text="upcoming, active or over")

    class Meta:
        model = Reservation
        fields = [
            "id", "name", "lane", "node", "resources", "starts_at", "ends_at", "users",
            "note", "state",
        ]  # fmt: skip

    def get_resources(self, row: Reservation) -> dict[str, int]:
        return {"cpus": row.cpus, "gpus": row.gpus, "memory": row.memory}

    def get_state(self, row: Reservation) -> str:
        return state(row, self.context["now"])


def shown(rows: Any, moment: Any, *, many: bool = False) -> Any:
    """What the routes and commands show of them."""
    return ReservationSerializer(rows, many=many, context={"now": moment}).data
