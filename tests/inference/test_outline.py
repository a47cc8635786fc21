"""Items are held to the signature, also by a predictor that would take anything."""

from __future__ import annotations

from typing import Any

import pytest

from inference import outline, predictor
from inference.cache import Facts

SCHEMA = {
    "type": "object",
    "properties": {
        "x": {"type": "number"},
        "n": {"type": ["integer", "null"]},
        "name": {"type": "string"},
        "some": {"type": "array"},
        "is": {"type": "boolean"},
        "any": {"description": "whatever"},
    },
    "required": ["x"],
    "additionalProperties": False,
}
FACTS = Facts(1, "lax:1", "lax", "digest of lax", 1, SCHEMA)


class Lax:
    """Answers whatever it is asked."""

    nbytes = 1
    uses_torch = False

    def encode(self, item: Any) -> Any:
        return item

    def predict(self, encoded: list[Any]) -> list[dict[str, Any]]:
        return [{"y": 1} for _ in encoded]


def answer(item: Any, facts: Facts = FACTS) -> dict[str, Any]:
    return predictor.answer(Lax(), [item], facts)[0]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({}, "'x' is a required property"), ({"x": None}, "x: None is not of type"),
        ({"x": True}, "x: True is not of type"), ({"x": [1]}, "x: "), ([], "an object"),
        ({"x": 1, "z": 1}, "'z' was unexpected"), ({"x": 1, "n": []}, "n: "),
        ({"x": 1, "name": 1}, "name: "), ({"x": 1, "some": {}}, "some: "),
        ({"x": 1, "is": 1}, "is: "),
    ],
)  # fmt: skip
def test_what_the_signature_does_not_take_is_a_bad_item(item: Any, words: str) -> None:
    error = answer(item)["error"]
    assert error["code"] == "bad_item"
    assert words in error["detail"]


@pytest.mark.parametrize(
    "item",
    [
        {"x": 1}, {"x": 1.5, "n": None}, {"x": "1.5"}, {"x": 1, "any": [{}]},
        {"x": 1, "name": "a", "some": [1], "is": True, "n": 2},
    ],
)  # fmt: skip
def test_what_it_takes_is_answered(item: Any) -> None:
    assert answer(item) == {"y": 1}


@pytest.mark.parametrize(
    "schema",
    [
        {}, {"properties": 3}, {"required": "x"}, {"properties": {"x": True}},
        {"properties": {"x": {"type": "odd"}}}, {"properties": {"x": {"type": 3}}},
    ],
)  # fmt: skip
def test_an_odd_signature_stands_in_nobodys_way(schema: dict[str, Any]) -> None:
    assert outline.Outline(schema).is_met({"x": 1})


@pytest.mark.parametrize("odd", [{}, {"x": True}, {"x": 1, "z": 1}, [], None])
def test_the_one_that_does_not_fit_is_found_among_many(odd: Any) -> None:
    found = predictor.answer(
        Lax(), [{"x": 1}, {"x": 2, "n": None}, odd, {"x": 3}], FACTS
    )
    assert ["error" in one for one in found] == [False, False, True, False]


def test_two_signatures_under_one_digest_are_told_apart() -> None:
    assert "error" in answer({})
    facts = Facts(1, "lax:1", "lax", FACTS.digest, 1, {"type": "object"})
    assert answer({}, facts) == {"y": 1}
