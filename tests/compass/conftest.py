"""A front with Django behind it and an inference worker beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections

from inference import crew, worker
from inference.cache import ModelCache
from registry.models import ApiKey, ModelVersion
from tests.compass.fronts import Running, line_of
from tests.conftest import make_node
from tests.inference import tiny
from tests.inference.conftest import cache  # noqa: F401


@pytest.fixture
def front(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(crew, "DISCOVER_EVERY", 0.1)
    host, port = live_server.thread.host, live_server.thread.port
    one = Running().begin((host, port))
    yield one
    one.end()
    connections.close_all()


@pytest.fixture
def key(transactional_db: None, alice: User) -> str:
    return ApiKey.make(alice, "test", ("read", "predict", "registry"))[1]


@pytest.fixture
def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def version(transactional_db: None, alice: User) -> ModelVersion:
    return tiny.make_version(owner=alice)


@pytest.fixture
def inference(
    transactional_db: None,
    cache: ModelCache,  # noqa: F811
) -> Iterator[worker.Worker]:
    ends: list[Callable[[], None]] = []
    yield line_of(make_node("inference@one", cpus=3), cache, ends)
    for end in ends:
        end()


@pytest.fixture
def gate(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> Iterator[threading.Event]:
    """While it is shut, the worker computes without an end."""
    one, predict = threading.Event(), inference._line._predict

    def wait(*asked: Any) -> Any:
        assert one.wait(20)
        return predict(*asked)

    assert front.ask({"model": "tiny", "inputs": [{"x": 1}]}, bearer).status == 200
    inference._line._predict = wait
    inference._line._seconds.clear()
    yield one
    one.set()
