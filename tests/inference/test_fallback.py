"""Several addresses for one prediction: which one answers, in what time, and what else is said."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from inference import gateway, worker
from inference.fallback import CANNOT_BE_SERVED, Reasons, first_served, listed
from registry.errors import CATALOGUE, Problem
from registry.models import ModelVersion
from tests.inference import tiny

PREDICT, BATCH = "/api/v1/inference/predict", "/api/v1/inference/batch"
BROKEN: dict[str, Any] = {"config": {"recipe": "tiny", "params": {"broken": 1}}}


def predict(client: APIClient, **body: Any) -> Any:
    return client.post(PREDICT, {"inputs": [{"x": 1}], **body}, format="json")


def test_the_first_that_can_be_served_answers_and_the_others_are_named(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    tiny.make_version("broken", 3.0, **BROKEN)
    body = predict(api, model=["gone@champion", "broken", "tiny"]).json()
    assert (body["model"], body["version"]) == ("tiny", 1)
    assert [(one["model"], one["code"]) for one in body["fell_back"]] == [
        ("gone@champion", "unknown_model"), ("broken", "model_unavailable"),
    ]  # fmt: skip
    assert all(one["detail"] for one in body["fell_back"])


def test_where_the_first_answers_nobody_was_passed_over(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    assert predict(api, model=["tiny", "gone"]).json()["fell_back"] == []
    assert "fell_back" not in predict(api, model="tiny").json()


def test_a_deleted_version_is_passed_over(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    other = tiny.make_version("tiny", 4.0)
    asked = ["tiny:2", "tiny:1"]
    assert predict(api, model=asked).json()["version"] == 2
    other.delete()
    assert predict(api, model=asked).json()["version"] == 1


def test_each_address_has_an_equal_share_of_the_time_that_is_left(
    version: ModelVersion,
    here: worker.Worker,
    api: APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds: list[float] = []

    def ask(found: Any, items: Any, *, timeout: float) -> Any:
        seconds.append(timeout)
        raise Problem("timeout", "It took too long.", retry_after=2)

    monkeypatch.setattr(gateway, "ask", ask)
    response = predict(api, model=["tiny", "tiny:1", "tiny@latest"])
    assert response.status_code == 504
    assert response["Retry-After"] == "2"
    assert seconds == [
        pytest.approx(10, abs=0.5),
        pytest.approx(15, abs=0.5),
        pytest.approx(30, abs=1),
    ]


def test_time_is_kept_for_the_next() -> None:
    now, shares = [0.0], []

    def serve(address: str, seconds: float) -> str:
        shares.append(seconds)
        now[0] += seconds
        if len(shares) < 3:
            raise Problem("timeout", "late")
        return address

    got, passed = first_served(
        ["a", "b", "c"], serve, timeout=30, monotonic=lambda: now[0]
    )
    assert (got, len(passed)) == ("c", 2)
    assert shares == [10, 10, 10]


@pytest.mark.parametrize("code", CATALOGUE)
def test_only_what_cannot_be_served_is_passed_over(code: str) -> None:
    def serve(address: str, seconds: float) -> str:
        if address == "a":
            raise Problem(code, "no")
        return address

    if code in CANNOT_BE_SERVED:
        assert first_served(["a", "b"], serve)[0] == "b"
    else:
        with pytest.raises(Problem) as caught:
            first_served(["a", "b"], serve)
        assert caught.value.code == code
        assert CATALOGUE[code][0] != 503 or code in {
            "uploads_busy", "disk_full", "broker_unavailable", "no_instance",
        }  # fmt: skip


def test_if_none_can_be_served_what_may_pass_is_told_first() -> None:
    reasons = Reasons()
    reasons.add("a", Problem("unknown_model", "There is none."))
    assert reasons.none_served().code == "unknown_model"
    reasons.add("b", Problem("busy", "Many wait.", retry_after=9))
    reasons.add("c", Problem("timeout", "Late.", retry_after=2))
    told = reasons.none_served()
    assert (told.code, told.retry_after) == ("busy", 2)
    assert told.detail == "a: There is none. b: Many wait. c: Late."
    assert told.errors["model"][1] == "b: Many wait."


def test_an_address_named_twice_is_asked_once() -> None:
    assert listed(["a", "b", "a"]) == ["a", "b"]
    assert listed("a") == ["a"]


@pytest.mark.parametrize(
    "model", [[], ["tiny"] * 9, ["tiny", 1], ["tiny", None], ["tiny", "a b"], ["tiny", ""], 7, {}]
)  # fmt: skip
def test_a_list_that_is_none_is_refused_before_anything_is_asked(
    version: ModelVersion, here: worker.Worker, api: APIClient, model: Any
) -> None:
    for path in (PREDICT, BATCH):
        body = {"model": model, "inputs": [{"x": 1}]}
        response = api.post(path, body, format="json")
        assert (response.status_code, response.json()["code"]) == (422, "invalid")
        assert list(response.json()["errors"]) == ["model"]
    assert tiny.Predictor.batches == []


def test_without_a_worker_a_list_says_so(version: ModelVersion, api: APIClient) -> None:
    response = predict(api, model=["tiny", "tiny:1"])
    assert (response.status_code, response.json()["code"]) == (503, "no_worker")
