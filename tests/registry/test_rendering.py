"""What answers look like as bytes."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from rest_framework.renderers import JSONRenderer
from rest_framework.utils.serializer_helpers import ReturnDict

from registry.rendering import QuickJSONRenderer

AT = datetime.datetime(2026, 1, 5, 9, 0, 0, 123456, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "data",
    [
        {"at": AT, "id": uuid.UUID(int=7), "cost": Decimal("1.50"), "on": AT.date()},
        {"text": 'é "\u2028" / \x00 \U0001f600', "none": None, "numbers": [1, -0.5, 1e-7]},
        {1: "one", "nested": [{"a": (1, 2)}, set()]},
        {"large": 2**70},
        ReturnDict({"state": "pending"}, serializer=None),
        [],
        None,
    ],
)  # fmt: skip
def test_an_answer_says_the_same_as_the_standard_one(data: Any) -> None:
    text, standard = QuickJSONRenderer().render(data), JSONRenderer().render(data)
    assert (text and json.loads(text)) == (standard and json.loads(standard))


def test_an_indent_is_kept() -> None:
    media = "application/json; indent=4"
    text = QuickJSONRenderer().render({"a": [1]}, media)
    assert text == JSONRenderer().render({"a": [1]}, media)
    assert b"\n    " in text
    assert json.loads(text) == {"a": [1]}
