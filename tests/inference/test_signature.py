from __future__ import annotations

from typing import Any

import pytest

from inference.signature import newest_that_fits, why_unfit
from registry.errors import Problem
from tests.inference import tiny


def signature(name: str) -> dict[str, Any]:
    one = {
        "type": "object",
        "properties": {name: {"type": "number"}},
        "required": [name],
    }
    return {"inputs": one, "outputs": tiny.RECIPE.outputs}


def test_the_newest_model_that_takes_the_items_is_chosen(time: Any, db: None) -> None:
    for name, weight in (("old", 1.0), ("new", 2.0), ("other", 3.0)):
        takes = "y" if name == "other" else "x"
        tiny.make_version(name, weight, signature=signature(takes))
        time.forward(minutes=1)
    assert newest_that_fits([{"x": 1}]).model.name == "new"
    assert newest_that_fits([{"y": 1}]).model.name == "other"


def test_only_the_newest_version_of_a_model_counts(time: Any, db: None) -> None:
    tiny.make_version("a", 1.0)
    time.forward(minutes=1)
    tiny.make_version("b", 2.0)
    time.forward(minutes=1)
    tiny.make_version("b", 3.0, signature=signature("y"))
    assert newest_that_fits([{"x": 1}]).model.name == "a"


def test_one_bad_item_does_not_hide_the_model(db: None) -> None:
    tiny.make_version("a")
    assert newest_that_fits([{"x": 1}, {"x": "?"}, 5]).model.name == "a"


def test_what_fits_no_model_is_told(db: None) -> None:
    tiny.make_version("a")
    with pytest.raises(Problem) as caught:
        newest_that_fits([{"z": 1}, 5])
    assert caught.value.code == "no_model_fits"


def test_a_long_value_is_not_repeated_in_the_reason() -> None:
    text = why_unfit(tiny.RECIPE.inputs, {"x": "A" * 10_000})
    assert text.startswith("x: ")
    assert len(text) < 300


def test_a_schema_that_is_none_fits_nothing() -> None:
    assert why_unfit({"type": "nonsense"}, {"x": 1}) != ""


def test_a_reference_in_a_signature_is_never_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **_: asked.append(a))
    schema = {"properties": {"x": {"$ref": "http://10.0.0.1/schema"}}}
    assert "signature cannot be used" in why_unfit(schema, {"x": 1})
    assert asked == []
