from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from inference import batch, frames, gateway, lead, loading, worker
from inference.batch import BatchRun
from inference.cache import ModelCache
from inference.holding import Held
from inference.links import Place
from registry import clock, recipes, store
from registry.models import ModelVersion, Node, Upload
from tests.conftest import make_node
from tests.inference import tiny


@pytest.fixture(autouse=True)
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The recipe `tiny` is known, and has seen nothing yet."""
    known = {
        **recipes._paths(),
        "tiny": "tests.inference.tiny:RECIPE",
        "network": "tests.inference.network:RECIPE",
        "sized": "tests.inference.sized:RECIPE",
    }
    monkeypatch.setattr(recipes, "_paths", lambda: known)
    recipes.get.cache_clear()
    tiny.Predictor.batches.clear()
    tiny.Predictor.loads.clear()
    yield
    recipes.get.cache_clear()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Other threads would not see the test's own transaction, and would wait for it."""
    if "transactional_db" not in request.fixturenames:
        monkeypatch.setattr(BatchRun, "_keep_beating", lambda self: None)
        monkeypatch.setattr(Held, "start", Held.load)
        for module in (batch, lead):
            monkeypatch.setattr(module, "close_old_connections", lambda: None)


@pytest.fixture
def version(db: None) -> ModelVersion:
    return tiny.make_version()


@pytest.fixture
def inference_node(db: None, request: pytest.FixtureRequest) -> Node:
    if "time" in request.fixturenames:
        request.getfixturevalue("time")
    return make_node("inference@one", cpus=3)


@pytest.fixture
def cache() -> ModelCache:
    return ModelCache(loading.load, loading.look, capacity=4)


@pytest.fixture
def here(
    inference_node: Node, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> worker.Worker:
    """An inference worker in this process, asked without a socket between."""
    one = worker.Worker("inference@one", cache)
    monkeypatch.setattr(one._tuner, "look", lambda: None)
    monkeypatch.setattr(gateway, "_link", lambda _: Direct(one))
    return one


class Direct:
    """A link to a worker of this very process."""

    place = Place("inference@one", "a", "", "", 0)

    def __init__(self, one: worker.Worker) -> None:
        self.one = one

    def ask(
        self, version: int, items: bytes, seconds: float, watch: Any = None
    ) -> frames.Answer:
        until = time.monotonic() + seconds
        return self.one._line.answer(version, [items], until, json.loads)[0]


@pytest.fixture
def unique() -> Callable[[], float]:
    """Another weight at each call, so that no two models are alike."""
    numbers = itertools.count(1)
    return lambda: float(next(numbers))


@pytest.fixture
def upload(alice: User) -> Callable[..., str]:
    def upload(name: str, content: bytes, **fields: Any) -> str:
        aside, sha256 = store.aside(), hashlib.sha256(content).hexdigest()
        aside.write_bytes(content)
        store.publish_file(aside, sha256)
        defaults = {"state": "sealed", "owner": alice, "sha256": sha256, "name": name}
        moments = {"created_at": clock.now(), "touched_at": clock.now()}
        row = Upload.objects.create(filename=name, **{**defaults, **moments, **fields})
        return str(row.pk)

    return upload
