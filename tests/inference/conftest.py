from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inference import gateway, loading, worker
from inference.cache import ModelCache
from registry import recipes
from registry.models import ModelVersion, Node
from tests.conftest import make_node
from tests.inference import tiny


@pytest.fixture(autouse=True)
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The recipe `tiny` is known, and has seen nothing yet."""
    known = {
        **recipes._paths(),
        "tiny": "tests.inference.tiny:RECIPE",
        "network": "tests.inference.network:RECIPE",
    }
    monkeypatch.setattr(recipes, "_paths", lambda: known)
    recipes.get.cache_clear()
    tiny.Predictor.batches.clear()
    tiny.Predictor.loads.clear()
    yield
    recipes.get.cache_clear()


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
    """An inference worker in this process, asked without a broker between."""
    one = worker.Worker("inference@one", cache)
    monkeypatch.setattr(one._tuner, "look", lambda: None)

    def ask_for(args: Any, **_: Any) -> Any:
        return Reply(gateway.predict.run(*args))

    monkeypatch.setattr(gateway.predict, "apply_async", ask_for)
    return one


class Reply:
    """What Celery gives back for a message, answered already."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def get(self, **_: Any) -> Any:
        return self.value


@pytest.fixture
def unique() -> Callable[[], float]:
    """Another weight at each call, so that no two models are alike."""
    numbers = itertools.count(1)
    return lambda: float(next(numbers))
