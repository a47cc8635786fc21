from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry.models import UserLimit
from registry.serializers.tasks import StrictSerializer

MOST = 1_000_000


class LimitRequest(StrictSerializer):
    """What may be held at a time; null, or not named, is no limit."""

    tasks = serializers.IntegerField(
        min_value=0, max_value=MOST, allow_null=True, required=False
    )
    cpus = serializers.IntegerField(
        min_value=0, max_value=MOST, allow_null=True, required=False
    )
    gpus = serializers.IntegerField(
        min_value=0, max_value=MOST, allow_null=True, required=False
    )


class LimitSerializer(serializers.ModelSerializer[UserLimit]):
    user = serializers.CharField(
        source="user.username", default="default", help_text="or `default`"
    )

    class Meta:
        model = UserLimit
        fields = ["user", "tasks", "cpus", "gpus"]


class Amounts(serializers.Serializer[Any]):
    tasks = serializers.IntegerField(allow_null=True)
    cpus = serializers.IntegerField(allow_null=True)
    gpus = serializers.IntegerField(allow_null=True)


class MyLimitSerializer(serializers.Serializer[Any]):
    user = serializers.CharField()
    limit = Amounts()
    in_use = Amounts()
    you_may_use = Amounts(help_text="null is as much as there is")
    use = serializers.FloatField(
        help_text="CPU-seconds had lately, halved each day; fair share goes by it"
    )
