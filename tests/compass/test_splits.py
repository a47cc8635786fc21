"""Aliases with a second version, asked through both lanes."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Any

import pytest

from inference import worker
from registry.models import ModelVersion, Second
from tests.compass.fronts import DJANGO, PREDICT, Running
from tests.compass.test_lanes import until
from tests.inference import tiny
from tests.inference.conftest import tiny_recipe  # noqa: F401

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
BODY = {"model": "tiny@champion", "inputs": [{"x": 1}]}


@pytest.fixture
def versions(version: ModelVersion) -> list[ModelVersion]:
    return [version, tiny.make_version("tiny", 7.0, owner=version.owner)]


def put(versions: list[ModelVersion], weight: float | None) -> Second:
    first, second = versions
    return Second.put(first.model.point("champion", first), second, weight)


def figures(front: Running, bearer: Any) -> Any:
    link = front.connect()
    link.request("GET", "/api/v1/models/tiny/aliases/champion", headers=bearer)
    body = json.loads(link.getresponse().read())
    link.close()
    return body


def test_a_key_has_the_same_side_on_both_lanes_and_for_ever(
    front: Running,
    inference: worker.Worker,
    versions: Any,
    bearer: Any,
) -> None:
    put(versions, 0.5)
    sides = {}
    link = front.connect()
    for n in range(24):
        body = {**BODY, "key": f"user-{n}"}
        raw = front.ask(body, bearer, link=link)
        assert raw.is_raw_lane
        again, django = front.ask(body, bearer), front.ask(body, bearer, DJANGO)
        assert raw.body["version"] == again.body["version"] == django.body["version"]
        sides[n] = raw.body["version"]
    link.close()
    assert set(sides.values()) == {1, 2}


@pytest.mark.parametrize("path", [PREDICT, DJANGO])
def test_a_split_answers_by_weight_and_counts_each_version(
    front: Running,
    inference: worker.Worker,
    versions: Any,
    bearer: Any,
    path: str,
) -> None:
    put(versions, 0.3)
    link = front.connect()
    seen = Counter(
        front.ask(BODY, bearer, path, link=link).body["version"] for _ in range(80)
    )
    link.close()
    assert 4 <= seen[2] <= 48  # nearly five standard deviations around 24, or more

    def counts() -> Any:
        answered = figures(front, bearer)["split"]["answered"]
        return {int(number): one["count"] for number, one in answered.items()}

    until(lambda: counts() == dict(seen))


@pytest.mark.parametrize("path", [PREDICT, DJANGO])
def test_a_shadow_is_compared_and_never_answers(
    front: Running,
    inference: worker.Worker,
    versions: Any,
    bearer: Any,
    path: str,
) -> None:
    put(versions, None)
    for n in range(20):
        body = {**BODY, "inputs": [{"x": n % 10}, {"x": "a"}]}
        assert front.ask(body, bearer, path).body["version"] == 1
    until(lambda: sum_of(figures(front, bearer)["shadow"]) == 20)
    shadow = figures(front, bearer)["shadow"]
    assert shadow["compared"] > 0
    assert shadow["mean_absolute_difference"] == shadow["greatest_difference"] == 0
    assert shadow["error_share"] == {"first": 0.5, "second": 0.5}
    assert shadow["latency"]["second"]["p99"] > 0
    assert shadow["answered"]["1"]["count"] == 20


def sum_of(shadow: Any) -> int:
    return int(shadow["compared"] + shadow["dropped"])


def test_a_shadow_that_cannot_load_fails_no_answer(
    front: Running,
    inference: worker.Worker,
    version: ModelVersion,
    bearer: Any,
) -> None:
    broken = {"config": {"recipe": "tiny", "params": {"broken": 1}}}
    put([version, tiny.make_version("tiny", 3.0, owner=version.owner, **broken)], None)
    for _ in range(5):
        assert front.ask(BODY, bearer).status == 200
    until(lambda: sum_of(figures(front, bearer)["shadow"]) == 5)
    assert figures(front, bearer)["shadow"]["error_share"] == {"first": 0, "second": 1}


def test_a_move_ends_a_split_at_once(
    front: Running,
    inference: worker.Worker,
    versions: Any,
    bearer: Any,
) -> None:
    put(versions, 0.5)
    link, stop, wrong = front.connect(), threading.Event(), []

    def disturb(path: str) -> None:
        own = front.connect()
        while not stop.is_set():
            if front.ask(BODY, bearer, path, link=own).status != 200:
                wrong.append("a request failed")
        own.close()

    others = [
        threading.Thread(target=disturb, args=(path,))
        for path in (PREDICT, PREDICT, PREDICT, DJANGO)
    ]
    for one in others:
        one.start()
    try:
        for n in range(20):
            target = versions[n % 2]
            target.model.point("champion", target)
            for path in (PREDICT, PREDICT, DJANGO):
                answer = front.ask(BODY, bearer, path, link=link)
                assert answer.body["version"] == target.number
            put(versions, 0.5)
    finally:
        stop.set()
        for one in others:
            one.join()
        link.close()
    assert not wrong


def test_a_full_cache_keeps_its_models_from_a_shadow(
    front: Running, inference: worker.Worker, versions: Any, bearer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(inference.cache, "_capacity", 1)
    put(versions, None)
    for _ in range(5):
        assert front.ask(BODY, bearer).status == 200
    until(lambda: sum_of(figures(front, bearer)["shadow"]) == 5)
    assert figures(front, bearer)["shadow"]["dropped"] == 5
    assert inference.cache.status()["evictions"] == 0
