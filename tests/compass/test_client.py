from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from compass import calls, client, remote
from compass.client import Compass, CompassError
from compass.registration import LONGEST_PAUSE, Registration

Answer = Callable[[httpx.Request], httpx.Response]


class Seconds:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    clock = Seconds()
    for module in (calls, client, remote):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def connect() -> Iterator[Callable[..., Compass]]:
    made: list[Compass] = []

    def connect(answer: Answer, **options: Any) -> Compass:
        transport = httpx.MockTransport(answer)
        made.append(Compass("http://there", "cmp_key", transport=transport, **options))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def task(**fields: Any) -> dict[str, Any]:
    return {"id": "7", "kind": "train", "state": "pending", **fields}


def test_a_script_is_queued_from_a_text_or_a_file_with_uploads(
    connect: Callable[..., Compass], tmp_path: Path
) -> None:
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url == "http://there/api/v1/scripts"
        seen.append(json.loads(request.content))
        return httpx.Response(202, json=task(kind="script"))

    (tmp_path / "job.sh").write_text("true\n")
    compass = connect(answer)
    assert compass.submit_script("echo hi", name="n", array="0-3").id == "7"
    compass.submit_script(tmp_path / "job.sh", files={"a": {"id": "3"}, "b": 4})
    assert seen == [
        {"script": "echo hi", "files": {}, "name": "n", "array": "0-3"},
        {"script": "true\n", "files": {"a": "3", "b": "4"}},
    ]


def test_a_training_is_queued_and_waited_for(
    connect: Callable[..., Compass], seconds: Seconds
) -> None:
    states = iter(["assigned", "running", "completed"])
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.method == "POST":
            return httpx.Response(202, json=task())
        return httpx.Response(200, json=task(state=next(states)))

    compass = connect(answer)
    done = compass.train("affinity", {"id": "3"}, {"seed": 1}, lane="cpu").wait()
    assert done.state == "completed"
    assert done.is_final
    first = seen[0]
    assert first.url == "http://there/api/v1/training/tasks"
    assert first.headers["Authorization"] == "Bearer cmp_key"
    assert json.loads(first.content) == {
        "recipe": "affinity",
        "dataset": "3",
        "params": {"seed": 1},
        "lane": "cpu",
    }


def test_waiting_has_an_end(connect: Callable[..., Compass], seconds: Seconds) -> None:
    compass = connect(lambda request: httpx.Response(200, json=task(state="running")))
    with pytest.raises(TimeoutError, match="still running"):
        compass.wait("7", timeout=5)
    assert 5 <= seconds.now < 7


def test_an_empty_list_of_models_is_sent_as_it_is_and_not_taken_for_any_model(
    connect: Callable[..., Compass],
) -> None:
    bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={"outputs": []})

    compass = connect(answer)
    for model in ([], (), None, "", "m", ("m", "n")):
        compass.predict([1], model)
    found = [one.get("model", "none") for one in bodies]
    assert found == [[], [], "none", "none", "m", ["m", "n"]]


@pytest.mark.parametrize("inputs", [{"x": 1}, "CCO"])
def test_one_item_is_not_taken_for_a_list_of_items(
    connect: Callable[..., Compass], inputs: Any
) -> None:
    compass = connect(lambda request: httpx.Response(200, json={}))
    with pytest.raises(TypeError, match="list of items"):
        compass.predict(inputs, "m")


def test_a_model_is_preloaded_and_evicted(connect: Callable[..., Compass]) -> None:
    asked: list[tuple[str, Any]] = []
    limits: list[float] = []
    told = [{"worker": "inference@one", "outcome": "loaded", "seconds": 0.1}]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.path, json.loads(request.content)))
        limits.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json={"workers": told})

    compass = connect(answer)
    assert compass.preload("m@best", pin=True, wait=90) == told
    assert compass.evict("m") == told
    assert asked == [
        ("/api/v1/inference/preload", {"model": "m@best", "pin": True, "wait": 90}),
        ("/api/v1/inference/evict", {"model": "m"}),
    ]
    assert limits == [150, 60]


def test_a_busy_server_is_asked_again_when_it_said_with_the_same_key(
    connect: Callable[..., Compass], seconds: Seconds
) -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) < 3:
            return httpx.Response(503, headers={"Retry-After": "3"}, json={})
        return httpx.Response(202, json=task())

    assert connect(answer).train("tabular", 1).id == "7"
    assert len(set(keys)) == 1
    assert all(pause >= 3 for pause in seconds.slept)


def test_a_server_that_stays_away_is_named(
    connect: Callable[..., Compass], seconds: Seconds
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(CompassError, match="http://there does not answer") as caught:
        connect(answer, patience=10).get("tasks")
    assert caught.value.code == "unreachable"
    assert seconds.now <= 10
    assert len(seconds.slept) > 3


def test_a_refusal_keeps_code_sentence_and_fields(
    connect: Callable[..., Compass],
) -> None:
    problem = {
        "code": "invalid",
        "detail": "seed: too small",
        "errors": {"seed": ["x"]},
    }
    compass = connect(lambda request: httpx.Response(422, json=problem))
    with pytest.raises(CompassError) as caught:
        compass.cancel("7")
    assert (caught.value.status, caught.value.code) == (422, "invalid")
    assert caught.value.errors == {"seed": ["x"]}


def test_a_refusal_that_is_no_json_is_still_told(
    connect: Callable[..., Compass],
) -> None:
    compass = connect(lambda request: httpx.Response(502, text="Bad gateway"))
    with pytest.raises(CompassError, match="Bad gateway"):
        compass.models()


def test_an_upload_is_sent_whole_and_waited_for(
    connect: Callable[..., Compass], seconds: Seconds, tmp_path: Path
) -> None:
    path = tmp_path / "dätä 1.csv"
    path.write_bytes(b"a,b\n1,2\n")
    states = iter(["sealing", "sealed"])
    bodies: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            request.read()
            bodies.append(request)
            return httpx.Response(201, json={"id": "1", "state": "receiving"})
        return httpx.Response(200, json={"id": "1", "state": next(states)})

    assert connect(answer).upload(path, name="one")["state"] == "sealed"
    assert bodies[0].content == b"a,b\n1,2\n"
    assert bodies[0].headers["Content-Length"] == "8"
    disposition = bodies[0].headers["Content-Disposition"]
    assert disposition == "attachment; filename*=UTF-8''d%C3%A4t%C3%A4%201.csv"
    assert bodies[0].url.params["name"] == "one"


def test_a_failed_upload_says_why(
    connect: Callable[..., Compass], tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("")
    row = {
        "id": "1",
        "state": "failed",
        "reason": "bad_data",
        "message": "It is empty.",
    }
    compass = connect(lambda request: httpx.Response(201, json=row))
    with pytest.raises(CompassError, match="It is empty") as caught:
        compass.upload(tmp_path / "x.csv")
    assert caught.value.code == "bad_data"


def test_without_arguments_it_finds_the_stack_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("COMPASS_URL", "REGISTRY_URL", "COMPASS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COMPASS_DATA_DIR", str(tmp_path))
    (tmp_path / "address").write_text("http://127.0.0.1:8123\n")
    (tmp_path / "key").write_text("cmp_local")
    with Compass() as compass:
        assert compass.url == "http://127.0.0.1:8123"
        assert compass.http.headers["Authorization"] == "Bearer cmp_local"
    monkeypatch.setenv("REGISTRY_URL", "http://older")
    with Compass() as compass:
        assert compass.url == "http://older"


@pytest.fixture
def registered(connect: Callable[..., Compass]) -> Iterator[Registration]:
    """A registration whose thread waits long enough never to act by itself."""
    answers = {"status": 201}

    def answer(request: httpx.Request) -> httpx.Response:
        status = answers["status"]
        if status >= 500:
            raise httpx.ConnectError("refused")
        if request.url.path.endswith("/register"):
            told = {"service_id": "5", "heartbeat_interval": 1000}
            return httpx.Response(201, json=told)
        return httpx.Response(status, json={})

    one = connect(answer).register_service("solver", "127.0.0.1", 9000)
    one.answers = answers  # type: ignore[attr-defined]
    yield one
    answers["status"] = 200
    one.close()


def test_a_service_registers_and_beats(registered: Registration) -> None:
    registered.answers["status"] = 200  # type: ignore[attr-defined]
    assert registered.service_id == "5"
    assert registered.step() == 1000
    assert registered._thread.daemon


def test_an_unknown_service_registers_again(registered: Registration) -> None:
    registered.answers["status"] = 404  # type: ignore[attr-defined]
    assert registered.step() == 0
    assert registered.service_id == ""
    assert registered.step() == 1000
    assert registered.service_id == "5"


def test_a_registry_that_is_away_is_tried_later_and_later(
    registered: Registration, seconds: Seconds
) -> None:
    registered.answers["status"] = 503  # type: ignore[attr-defined]
    pauses = [registered.step() for _ in range(8)]
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE]
    registered.answers["status"] = 200  # type: ignore[attr-defined]
    assert registered.step() == 1000
    registered.answers["status"] = 503  # type: ignore[attr-defined]
    assert registered.step() == 1


class Recorder:
    """Answers everything with one task, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content or b"null")
        path = request.url.path.removeprefix("/api/v1/")
        self.asked.append((request.method, path, body))
        return httpx.Response(200, json=task(results=[]))


def test_a_training_depends_on_tasks_given_as_they_are_or_by_id(
    connect: Callable[..., Compass],
) -> None:
    seen = Recorder()
    compass = connect(seen)
    first = compass.train("tabular", 1)
    compass.train("tabular", 1, depends_on=[first, 8], priority=5)
    compass.submit_script("true", depends_on={"afterany": ["9", first]})
    bodies = [body for _, _, body in seen.asked]
    assert "depends_on" not in bodies[0]
    assert (bodies[1]["depends_on"], bodies[1]["priority"]) == (
        {"afterok": ["7", "8"]},
        5,
    )
    assert bodies[2]["depends_on"] == {"afterany": ["9", "7"]}


def test_tasks_are_ordered_about_alone_or_many_at_once(
    connect: Callable[..., Compass],
) -> None:
    seen = Recorder()
    compass = connect(seen)
    one = compass.task(7)
    one.pause().resume().retry(start_over=True).change(priority=3).delete()
    compass.retry(state="failed", reason="bad_data")
    compass.purge([7, "8"])
    compass.lanes()
    compass.limits()
    assert seen.asked[1:] == [
        ("POST", "tasks/7/pause", {}),
        ("POST", "tasks/7/resume", {}),
        ("POST", "tasks/7/retry", {"from": "start"}),
        ("PATCH", "tasks/7", {"priority": 3}),
        ("DELETE", "tasks/7", None),
        ("POST", "tasks/retry", {"filter": {"state": "failed", "reason": "bad_data"}}),
        ("POST", "tasks/purge", {"ids": ["7", "8"]}),
        ("GET", "lanes", None),
        ("GET", "limits/me", None),
    ]
