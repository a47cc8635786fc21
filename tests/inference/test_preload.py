"""Preload, evict and status: over every worker's line, whatever the broker does."""

from __future__ import annotations

import io
import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from inference import worker
from inference.links import SERVICE
from inference.worker import Worker
from registry.models import ModelVersion, Node, Service
from tests.conftest import make_node
from tests.inference import tiny

pytestmark = pytest.mark.django_db(transaction=True)


def place(name: str, path: Path) -> None:
    about = {"node": name, "socket": str(path), "address": "", "port": 0}
    Service.register(
        service_name=SERVICE, host=name, port=0, incarnation=uuid.uuid4().hex,
        metadata={**about, "lane": "inference"},
    )  # fmt: skip


@pytest.fixture
def listening(here: Worker, tmp_path: Path) -> Iterator[Worker]:
    path = tmp_path / "one.sock"
    here._line.open(path)
    place("inference@one", path)
    yield here
    here._line.close()


@pytest.fixture(autouse=True)
def no_broker(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"


def post(api: APIClient, name: str, **body: Any) -> list[dict[str, Any]]:
    answer = api.post(f"/api/v1/inference/{name}", body, format="json")
    assert answer.status_code == 200, answer.json()
    found = answer.json()
    assert (found["model"], found["version"]) == (body["model"].split(":")[0], 1)
    return list(found["workers"])


def run(*args: str) -> Any:
    out = io.StringIO()
    try:
        call_command("preload", *args, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue() + str(error)
    return 0, out.getvalue()


def test_a_model_is_loaded_and_evicted_and_each_worker_says_how_it_went(
    version: ModelVersion, listening: Worker, api: APIClient
) -> None:
    (one,) = post(api, "preload", model="tiny")
    assert (one["worker"], one["outcome"]) == ("inference@one", "loaded")
    assert listening.cache.ready() == [version.pk]
    assert post(api, "preload", model="tiny")[0]["outcome"] == "was loaded"
    assert post(api, "evict", model="tiny")[0]["outcome"] == "evicted"
    assert listening.cache.ready() == []
    assert post(api, "evict", model="tiny")[0]["outcome"] == "not loaded"


def test_a_model_in_use_is_not_evicted_and_the_answer_says_so(
    version: ModelVersion, listening: Worker, api: APIClient
) -> None:
    with listening.cache.use(version.pk):
        assert post(api, "evict", model="tiny")[0]["outcome"] == "in use"
    assert listening.cache.ready() == [version.pk]


def test_a_load_that_fails_says_why_without_a_path(
    listening: Worker, api: APIClient
) -> None:
    tiny.make_version("bad", config={"recipe": "tiny", "params": {"broken": 1}})
    (one,) = post(api, "preload", model="bad")
    assert (one["outcome"], one["code"]) == ("failed", "model_unavailable")
    assert "bad:1 cannot be loaded" in one["detail"]
    assert tiny.SECRET not in json.dumps(one)


def test_a_load_that_takes_longer_than_one_waits_goes_on(
    version: ModelVersion, listening: Worker, api: APIClient, monkeypatch: Any
) -> None:
    gate, load = threading.Event(), tiny.Predictor.load

    def slow(directory: Path, device: str) -> Any:
        assert gate.wait(20)
        return load(directory, device)

    monkeypatch.setattr(tiny.Predictor, "load", slow)
    assert post(api, "preload", model="tiny", wait=0)[0]["outcome"] == "loading"
    gate.set()
    assert post(api, "preload", model="tiny")[0]["outcome"] in ("loaded", "was loaded")


def test_one_worker_that_cannot_be_reached_hides_no_other(
    version: ModelVersion, listening: Worker, api: APIClient, tmp_path: Path
) -> None:
    make_node("inference@two", cpus=3)
    place("inference@two", tmp_path / "nobody.sock")
    make_node("inference@new", cpus=3)
    told = {one["worker"]: one for one in post(api, "preload", model="tiny")}
    assert {name: one["outcome"] for name, one in told.items()} == {
        "inference@one": "loaded", "inference@two": "failed", "inference@new": "failed",
    }  # fmt: skip
    assert told["inference@two"]["code"] == "no_worker"


def test_nobody_is_told_when_no_worker_is_up(
    version: ModelVersion, api: APIClient
) -> None:
    answer = api.post("/api/v1/inference/preload", {"model": "tiny"}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (503, "no_worker")


@pytest.mark.parametrize("wait", [-1, 601, "nan", 1e300, [1]])
def test_a_wait_that_cannot_be_is_refused(
    version: ModelVersion, listening: Worker, api: APIClient, wait: Any
) -> None:
    body = {"model": "tiny", "wait": wait}
    answer = api.post("/api/v1/inference/preload", body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_the_status_is_what_the_worker_says_now(
    version: ModelVersion, listening: Worker, api: APIClient, inference_node: Node
) -> None:
    post(api, "preload", model="tiny", pin=True)
    listening.predict(version.pk, [{"x": 1}])
    (one,) = api.get("/api/v1/inference/status").json()["workers"]
    assert one["is_live"]
    (model,) = one["models"]
    wanted = {
        "model": "tiny:1", "pinned": True, "in_use": False, "loads": 1, "misses": 1,
        "hits": 1, "evictions": 0,
    }  # fmt: skip
    assert {name: model[name] for name in wanted} == wanted
    assert model["bytes"] > 0
    assert model["load_seconds"] >= 0
    post(api, "evict", model="tiny")
    (one,) = api.get("/api/v1/inference/status").json()["workers"]
    assert one["models"] == []
    assert one["gone"][0]["evictions"] == 1


def test_the_status_of_a_silent_worker_is_its_last_word(
    version: ModelVersion, here: worker.Worker, inference_node: Node, api: APIClient
) -> None:
    here.predict(version.pk, [{"x": 1}])
    inference_node.beat(**here._tell())
    (one,) = api.get("/api/v1/inference/status").json()["workers"]
    assert not one["is_live"]
    assert one["models"][0]["model"] == "tiny:1"


def test_the_command_loads_and_evicts(version: ModelVersion, listening: Worker) -> None:
    code, out = run("tiny", "--json")
    assert (code, json.loads(out)["workers"][0]["outcome"]) == (0, "loaded")
    code, out = run("tiny", "--evict")
    assert code == 0
    assert "inference@one\tevicted" in out


def test_the_command_fails_where_a_worker_does(
    version: ModelVersion, listening: Worker
) -> None:
    make_node("inference@new", cpus=3)
    code, out = run("tiny")
    assert code == 1
    assert "tiny:1 is not loaded on 1 of 2 workers." in out
    assert run("nothing")[0] == 1
    assert run("tiny", "--wait", "-1")[0] == 2


def test_a_worker_loads_the_listed_models_at_its_start(
    version: ModelVersion, here: Worker, inference_node: Node, settings: Any
) -> None:
    settings.ENVIRONMENT = replace(settings.ENVIRONMENT, preload_models=["tiny"])
    loaded = threading.Event()
    preload = here.control.preload_listed

    def noted(addresses: Any) -> Any:
        told = preload(addresses)
        loaded.set()
        return told

    here.control.preload_listed = noted  # type: ignore[method-assign]
    here._membership = SimpleNamespace(node=inference_node)  # type: ignore[assignment]
    here._open_line()
    try:
        assert loaded.wait(20)
        assert here.cache.ready() == [version.pk]
    finally:
        here._close_line()
