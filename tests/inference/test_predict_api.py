from __future__ import annotations

import functools
import json
from time import monotonic
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from inference import gateway, worker
from inference.frames import Status
from inference.stop import Stopped
from registry import store
from registry.models import ModelVersion, Node
from tests.conftest import client_of
from tests.inference import tiny

PREDICT = "/api/v1/inference/predict"


def post(client: APIClient, **body: Any) -> Any:
    return client.post(PREDICT, body, format="json")


def test_a_prediction_has_value_model_version_and_time(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    response = post(api, model="tiny", inputs=[{"x": 1}, {"x": 2.5}])
    assert response.status_code == 200
    body = response.json()
    assert body["outputs"] == [{"y": 2}, {"y": 5}]
    assert (body["model"], body["version"]) == ("tiny", 1)
    assert body["took"] > 0


def test_a_bad_item_has_its_own_error(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    response = post(api, model="tiny:1", inputs=[{"x": 1}, {"x": "a"}, 3, {"x": 4}])
    assert response.status_code == 200
    outputs = response.json()["outputs"]
    assert [one.get("error", {}).get("code") for one in outputs] == [
        None, "bad_item", "bad_item", None,
    ]  # fmt: skip


def test_without_a_model_the_newest_that_fits_answers(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    assert post(api, inputs=[{"x": 1}]).json()["model"] == "tiny"
    response = post(api, inputs=[{"z": 1}])
    assert response.status_code == 422
    assert response.json()["code"] == "no_model_fits"


def test_an_alias_answers_with_the_version_it_names_now(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    other = tiny.make_version("tiny", 5.0)
    for target in (version, other):
        version.model.point("champion", target)
        body = post(api, model="tiny@champion", inputs=[{"x": 1}]).json()
        assert body["version"] == target.number


def test_a_deleted_version_is_not_served(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    assert post(api, model="tiny:1", inputs=[{"x": 1}]).status_code == 200
    version.delete()
    response = post(api, model="tiny:1", inputs=[{"x": 1}])
    assert response.status_code == 404
    assert response.json()["code"] == "unknown_model"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": "tiny"}, "invalid"),
        ({"model": "tiny", "inputs": []}, "invalid"),
        ({"model": "tiny", "inputs": {"x": 1}}, "invalid"),
        ({"model": "tiny", "inputs": "x"}, "invalid"),
        ({"model": "tiny", "inputs": None}, "invalid"),
        ({"model": "tiny", "inputs": [{"x": 1}] * 1001}, "too_many_items"),
        ({"model": [["tiny"]], "inputs": [{"x": 1}]}, "invalid"),
        ({"model": "", "inputs": [{"x": 1}]}, "invalid"),
        ({"model": None, "inputs": [{"x": 1}]}, "invalid"),
        ({"model": "../x", "inputs": [{"x": 1}]}, "invalid"),
        ({"model": "none", "inputs": [{"x": 1}]}, "unknown_model"),
        ({"model": "tiny:2", "inputs": [{"x": 1}]}, "unknown_model"),
        ({"model": "tiny", "inputs": [{"x": 1}], "extra": 1}, "invalid"),
    ],
)
def test_a_wrong_request_is_refused_with_a_code(
    version: ModelVersion, here: worker.Worker, api: APIClient, body: Any, code: str
) -> None:
    response = post(api, **body)
    assert response.status_code in (404, 422)
    assert response.json()["code"] == code
    assert tiny.Predictor.batches == []


def test_a_thousand_items_are_taken(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    response = post(api, model="tiny", inputs=[{"x": -n} for n in range(1000)])
    assert [one["y"] for one in response.json()["outputs"]] == [
        -2 * n for n in range(1000)
    ]


def test_predicting_needs_the_scope_predict(
    version: ModelVersion, here: worker.Worker, alice: User
) -> None:
    weak = client_of(alice, "read", "submit", "registry")
    assert post(weak, model="tiny", inputs=[{"x": 1}]).status_code == 403
    assert post(APIClient(), model="tiny", inputs=[{"x": 1}]).status_code == 401


def test_without_a_worker_it_says_so_and_when_to_come_back(
    version: ModelVersion, api: APIClient
) -> None:
    response = post(api, model="tiny", inputs=[{"x": 1}])
    assert response.status_code == 503
    assert response.json()["code"] == "no_worker"
    assert int(response["Retry-After"]) >= 1


def test_a_worker_that_fell_silent_is_none(
    version: ModelVersion, time: Any, inference_node: Node, api: APIClient
) -> None:
    time.forward(seconds=60)
    assert post(api, model="tiny", inputs=[{"x": 1}]).json()["code"] == "no_worker"


def test_no_line_is_504_at_the_deadline(
    version: ModelVersion,
    inference_node: Node,
    api: APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = [0.0]

    def sleep(seconds: float) -> None:
        moment[0] += seconds

    ask = functools.partial(gateway.ask, monotonic=lambda: moment[0], sleep=sleep)
    monkeypatch.setattr(gateway, "ask", ask)
    response = post(api, model="tiny", inputs=[{"x": 1}])
    assert response.status_code == 504
    assert response.json()["code"] == "timeout"
    assert moment[0] == pytest.approx(30.0)


def test_a_link_that_breaks_is_asked_again(
    version: ModelVersion,
    here: worker.Worker,
    api: APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken:
        class place:  # noqa: N801
            name = "inference@gone"

        def ask(self, *_: Any) -> Any:
            raise ConnectionResetError

    links = [Broken(), gateway._link(version.pk)]
    forgotten: list[Any] = []
    monkeypatch.setattr(gateway, "_link", lambda _: links.pop(0))
    monkeypatch.setattr(gateway, "_forget", forgotten.append)
    assert post(api, model="tiny", inputs=[{"x": 1}]).json()["outputs"] == [{"y": 2}]
    assert len(forgotten) == 1


def test_a_model_that_cannot_load_is_503_without_a_path(
    version: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    (store.model_path(version.digest) / "config.json").write_text("{}")
    response = post(api, model="tiny", inputs=[{"x": 1}])
    assert response.status_code == 503
    assert response.json()["code"] == "model_unavailable"
    assert str(store.root()) not in response.content.decode()


def test_the_worker_drops_what_nobody_waits_for(
    version: ModelVersion, here: worker.Worker
) -> None:
    past = monotonic() - 1
    with pytest.raises(Stopped):
        here._line.answer(version.pk, [b'[{"x": 1}]'], past)
    [(status, answer)] = here._line.late(1)
    assert status == Status.PROBLEM
    assert json.loads(answer)["code"] == "timeout"
    assert tiny.Predictor.batches == []


def test_a_surprise_in_the_worker_is_an_error_without_a_trace(
    version: ModelVersion,
    here: worker.Worker,
    api: APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_down(*_: Any) -> None:
        raise RuntimeError(tiny.SECRET)

    monkeypatch.setattr(here._line, "_predict", break_down)
    response = post(api, model="tiny", inputs=[{"x": 1}])
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert tiny.SECRET not in response.content.decode()


def test_the_status_shows_what_each_worker_holds(
    version: ModelVersion, here: worker.Worker, inference_node: Node, api: APIClient
) -> None:
    for _ in range(3):
        post(api, model="tiny", inputs=[{"x": 1}])
    inference_node.beat(**here._tell())
    body = api.get("/api/v1/inference/status").json()
    one = body["workers"][0]
    assert (one["name"], one["state"]) == ("inference@one", "up")
    assert (one["misses"], one["hits"], one["loads"]) == (1, 2, 1)
    assert one["models"][0]["model"] == "tiny:1"
    assert body["waiting"] == 0
    json.dumps(body)
