"""Aliases move and versions go while a front or a worker of a real stack is frozen, and under load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tests import postgres
from tests.flows.conftest import ROOT, Stack
from tests.inference import onnx_files

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
ALIAS = "/models/net/aliases/champion"
BODY = {"inputs": [{"x": [0.5] * onnx_files.WIDTH}]}
AT_ONCE = 3.0  # seconds; a deletion waits half a second for workers


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def two(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack with two inference workers."""
    settings = {"COMPASS_INFERENCE_WORKERS": "2", "COMPASS_NODE_NAME": "here"}
    with own_database(request.param) as url:
        if url:
            settings["COMPASS_DATABASE_URL"] = url
        stack = Stack(tmp_path_factory.mktemp(request.param), **settings)
        stack.settings = settings  # type: ignore[attr-defined]
        try:
            yield stack
        finally:
            stack.stop()
            stack.http.close()


@contextmanager
def own_database(kind: str) -> Iterator[str]:
    if kind == "sqlite":
        yield ""
        return
    import psycopg

    server, name = postgres.url(), f"flow_invalidation_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as link:
        link.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        try:
            yield server.rpartition("/")[0] + f"/{name}"
        finally:
            link.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


def add(stack: Stack) -> int:
    """Another version of the model; its number."""
    content = onnx_files.perceptron().SerializeToString()
    answer = stack.http.post(
        "/api/v1/models", files={"file": ("net.onnx", content)}, data={"name": "net"}
    )
    assert answer.status_code == 201, answer.text
    return int(answer.json()["version"])


def ask(stack: Stack, model: str = "net@champion", status: int = 200) -> Any:
    answer = stack.http.post("/api/v1/inference/predict", json={"model": model, **BODY})
    assert answer.status_code == status, answer.text
    return answer.json()


def delete(stack: Stack, number: int) -> float:
    """Delete that version; how long it took, in seconds."""
    began = time.monotonic()
    answer = stack.http.delete(f"/api/v1/models/net/versions/{number}")
    assert answer.status_code == 204, answer.text
    return time.monotonic() - began


def held(stack: Stack) -> dict[str, list[str]]:
    """What each worker that answers holds."""
    return {
        one["name"]: [model["model"] for model in one["models"]]
        for one in stack.get("/inference/status")["workers"]
        if one["is_live"]
    }


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def manage(stack: Stack, *words: str) -> None:
    outside = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COMPASS_", "DJANGO_"))
    }
    own = {"COMPASS_DATA_DIR": str(stack.directory), **stack.settings}  # type: ignore[attr-defined]
    subprocess.run(
        [sys.executable, "manage.py", *words], cwd=ROOT, check=True, timeout=60,
        env={**outside, **own}, capture_output=True,
    )  # fmt: skip


def test_moves_and_deletions_under_load_leave_no_answer_wrong_or_stale(
    two: Stack,
) -> None:
    number = add(two)
    two.post(ALIAS, version=number)
    stop, problems = threading.Event(), list[BaseException]()

    def load() -> None:
        try:
            while not stop.is_set():
                ask(two)
        except BaseException as error:
            problems.append(error)

    loads = [threading.Thread(target=load) for _ in range(8)]
    for one in loads:
        one.start()
    try:
        for _ in range(10):
            newer = add(two)
            two.post(ALIAS, version=newer)
            assert {ask(two)["version"] for _ in range(5)} == {newer}
            delete(two, number)
            ask(two, f"net:{number}", 404)
            number = newer
    finally:
        stop.set()
        for one in loads:
            one.join()
    assert not problems


def test_a_deletion_frees_every_worker_and_waits_for_none_that_is_frozen(
    two: Stack,
) -> None:
    kept, first, second = add(two), add(two), add(two)
    two.post(ALIAS, version=kept)
    for number in (first, second):
        two.post("/inference/preload", model=f"net:{number}")
    assert {f"net:{first}", f"net:{second}"} <= set(held(two)["inference@here.2"])
    delete(two, first)
    assert all(f"net:{first}" not in models for models in held(two).values())

    with frozen(two.process("inference@here.2")):
        assert delete(two, second) < AT_ONCE
        assert f"net:{second}" not in held(two)["inference@here"]
    two.until(
        lambda: f"net:{second}" not in held(two).get("inference@here.2", [second]),
        "the worker that thawed lets go of it",
    )


def test_a_front_that_thaws_answers_by_what_is_true_then(two: Stack) -> None:
    one, other = add(two), add(two)
    two.post(ALIAS, version=one)
    assert ask(two)["version"] == one
    with frozen(two.process("compass.front")):
        manage(two, "models", "alias", "net", "champion", str(other))
    assert ask(two)["version"] == other


def test_a_key_that_was_revoked_while_the_front_was_frozen_is_refused(
    two: Stack,
) -> None:
    manage(two, "shell", "-c", MAKE)
    weak = {"Authorization": "Bearer cmp_weak"}
    body = {"model": "net", **BODY}

    def status() -> int:
        answer = two.http.post("/api/v1/inference/predict", json=body, headers=weak)
        return answer.status_code

    assert [status() for _ in range(3)] == [200] * 3
    with frozen(two.process("compass.front")):
        manage(two, "shell", "-c", REVOKE)
    assert status() == 401


MAKE = (
    "from registry.models import ApiKey; from registry import clock;"
    "from django.contrib.auth.models import User;"
    "ApiKey.objects.create(user=User.objects.first(), name='weak', prefix='cmp_weak',"
    "sha256=ApiKey.digest('cmp_weak'), scopes=['predict'], created_at=clock.now())"
)
REVOKE = (
    "from registry.models import ApiKey; from registry import clock;"
    "ApiKey.objects.filter(name='weak').update(revoked_at=clock.now())"
)
