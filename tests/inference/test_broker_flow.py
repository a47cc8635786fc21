from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from rest_framework.test import APIClient

from compass.celery import app
from inference import question, worker
from inference.cache import ModelCache
from registry.models import ModelVersion, Node
from tests.inference import tiny


@pytest.fixture
def celery_worker(
    transactional_db: None, inference_node: Node, cache: ModelCache
) -> Iterator[worker.Worker]:
    """A Celery worker in threads of this process, on a broker in memory."""
    one = worker.Worker("inference@one", cache)
    with start_worker(
        app, pool="threads", concurrency=2, perform_ping_check=False,
        queues=[question.QUEUE], shutdown_timeout=30,
    ):  # fmt: skip
        yield one


def test_a_request_goes_through_the_broker_and_back(
    celery_worker: worker.Worker, version: ModelVersion, api: APIClient
) -> None:
    body: dict[str, Any] = {"model": "tiny", "inputs": [{"x": 1}, {"x": "a"}]}
    response = api.post("/api/v1/inference/predict", body, format="json")
    assert response.status_code == 200
    outputs = response.json()["outputs"]
    assert outputs[0] == {"y": 2}
    assert outputs[1]["error"]["code"] == "bad_item"
    assert len(tiny.Predictor.loads) == 1
