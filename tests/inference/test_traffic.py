"""Predictions are counted whatever they end in, and no count is lost while the database is away."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from inference import traffic, worker
from inference.traffic import Counter
from registry.models import ModelVersion, Traffic

PREDICT, STATUS = "/api/v1/inference/predict", "/api/v1/inference/status"


@pytest.fixture(autouse=True)
def counter(db: None, monkeypatch: pytest.MonkeyPatch) -> Counter:
    Traffic.objects.all().delete()  # of processes that other tests began
    one = Counter(traffic.DJANGO)
    monkeypatch.setattr(
        traffic, "HERE", {traffic.DJANGO: one, traffic.REST: Counter(traffic.REST)}
    )
    return one


def requests(api: APIClient) -> Any:
    return api.get(STATUS).json()["requests"]


def test_every_answer_is_counted_and_those_that_refuse_are_errors(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    assert requests(api)["django"]["count"] == 0
    good = {"model": "tiny", "inputs": [{"x": 1}]}
    for body in (good, {**good, "model": "none"}, {**good, "extra": 1}):
        api.post(PREDICT, body, format="json")
    APIClient().post(PREDICT, good, format="json")
    found = requests(api)["django"]
    assert (found["count"], found["errors"]) == (4, 3)
    assert 0 < found["p50"] <= found["p99"]
    none = {"count": 0, "errors": 0, "p50": None, "p99": None, "since": None}
    assert requests(api)["raw"] == none


def test_what_breaks_in_the_view_is_counted_as_an_error(
    version: ModelVersion, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.views.first_served", lambda *_, **__: 1 / 0)
    api.raise_request_exception = False
    body = {"model": "tiny", "inputs": [{"x": 1}]}
    assert api.post(PREDICT, body, format="json").status_code == 500
    assert requests(api)["django"]["errors"] == 1


def test_what_was_written_and_what_was_not_are_shown_as_one(
    db: None, api: APIClient, counter: Counter
) -> None:
    traffic.note(0.01, 200)
    counter.write(counter.take())
    traffic.note(0.01, 503)
    found = requests(api)["django"]
    assert (found["count"], found["errors"]) == (2, 1)
    assert Traffic.objects.get().figures["count"] == 1


def test_counts_are_kept_while_the_database_is_away(
    db: None, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("away")

    traffic.note(0.01, 200)
    with monkeypatch.context() as patch:
        patch.setattr(Traffic, "note", away)
        counter.write(counter.take())
    traffic.note(0.01, 200)
    counter.write(counter.take())
    assert Traffic.objects.get().figures["count"] == 2
    assert counter.take() == {}
