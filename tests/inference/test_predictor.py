from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from inference import predictor
from inference.cache import Facts
from tests.inference import tiny

FACTS = Facts(1, "tiny:1", "tiny", "d", 1, dict(tiny.RECIPE.inputs))


def answers(*items: Any, batch: int = 4) -> list[dict[str, Any]]:
    return predictor.answer(tiny.Predictor(), items, FACTS, batch=batch)


def codes(found: list[dict[str, Any]]) -> list[str]:
    return [one["error"]["code"] if "error" in one else "" for one in found]


def test_each_item_has_its_answer_in_order() -> None:
    found = answers(*({"x": n} for n in range(10)))
    assert [one["y"] for one in found] == [2 * n for n in range(10)]
    assert tiny.Predictor.batches == [4, 4, 2]


def test_a_bad_item_does_not_hurt_its_neighbours() -> None:
    found = answers({"x": 1}, {"x": "many"}, {"x": 3})
    assert found[0] == {"y": 2}
    assert found[1] == {"error": {"code": "bad_item", "detail": "x must be a number"}}
    assert found[2] == {"y": 6}


@pytest.mark.parametrize("place", [0, 1, 2, 3, 6])
def test_an_item_that_fails_the_whole_batch_fails_alone(place: int) -> None:
    items = [{"x": float(n)} for n in range(7)]
    items[place] = {"x": tiny.POISON}
    found = answers(*items)
    assert codes(found) == ["internal" if n == place else "" for n in range(7)]
    assert [one.get("y") for n, one in enumerate(found) if n != place] == [
        2 * n for n in range(7) if n != place
    ]


def test_an_answer_that_is_no_number_is_an_error_of_that_item() -> None:
    found = answers({"x": 1}, {"x": tiny.NO_NUMBER}, {"x": 2})
    assert codes(found) == ["", "internal", ""]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (5, "must be an object"),
        (None, "must be an object"),
        ([], "must be an object"),
        ({}, "'x' is a required property"),
        ({"x": [1]}, "x: [1] is not of type 'number'"),
        ({"x": 10**400}, "too large"),
    ],
)
def test_an_item_of_the_wrong_shape_is_told_what_is_wrong(
    item: Any, words: str
) -> None:
    found = answers({"x": 1}, item)
    assert codes(found) == ["", "bad_item"]
    assert words in found[1]["error"]["detail"]


def test_no_answer_shows_a_path_and_the_log_has_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        found = answers({"x": "crash"}, {"x": tiny.POISON})
    assert codes(found) == ["bad_item", "internal"]
    assert tiny.SECRET not in json.dumps(found)
    assert tiny.SECRET in caplog.text
    assert "tiny:1" in caplog.text


def test_a_model_that_answers_too_few_is_a_failure_of_each_item() -> None:
    class Short(tiny.Predictor):
        def predict(self, encoded: list[float]) -> list[dict[str, Any]]:
            return []

    found = predictor.answer(Short(), [{"x": 1}, {"x": 2}], FACTS)
    assert codes(found) == ["internal", "internal"]


def test_it_computes_with_one_thread_and_without_gradients() -> None:
    import torch

    seen: list[Any] = []

    class Watch(tiny.Predictor):
        def predict(self, encoded: list[float]) -> list[dict[str, Any]]:
            seen.extend([torch.is_inference_mode_enabled(), torch.get_num_threads()])
            return super().predict(encoded)

    predictor.answer(Watch(), [{"x": 1}], FACTS)
    assert seen == [True, 1]
