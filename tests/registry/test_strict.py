from __future__ import annotations

from typing import Any

import pytest
from rest_framework import serializers

from registry.serializers.services import Beat
from registry.serializers.tasks import StrictSerializer


class Inner(StrictSerializer):
    cpus = serializers.IntegerField(required=False)


class Sample(StrictSerializer):
    name = serializers.CharField(required=False)
    lane = serializers.ChoiceField(choices=["cpu", "1"], required=False)
    count = serializers.IntegerField(required=False)
    tags = serializers.ListField(child=serializers.CharField(), required=False)
    inner = Inner(required=False)


@pytest.mark.parametrize(
    "data",
    [
        {"name": 5},
        {"name": True},
        {"lane": 1},
        {"count": "2"},
        {"count": True},
        {"count": 2.0},
        {"tags": "a"},
        {"tags": {"a": 1}},
        {"tags": ["a", 1]},
        {"inner": {"cpus": "2"}},
        {"inner": 3},
    ],
)
def test_a_value_of_another_json_type_is_refused(data: Any) -> None:
    asked = Sample(data=data)
    assert not asked.is_valid()
    assert set(asked.errors) == set(data)


def test_values_of_the_right_type_pass() -> None:
    data = {"name": "5", "lane": "1", "count": 2, "tags": ["a"], "inner": {"cpus": 1}}
    asked = Sample(data=data)
    assert asked.is_valid(), asked.errors


def test_a_beat_with_an_unknown_field_is_refused() -> None:
    told = Beat(data={"connections": 1, "conections": 2})
    assert not told.is_valid()
    assert set(told.errors) == {"conections"}
