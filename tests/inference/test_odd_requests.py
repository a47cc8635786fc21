from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from inference import worker
from inference.cache import ModelCache
from registry.models import ModelVersion, Node

MODELS, INFERENCE = "/api/v1/models", "/api/v1/inference"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("depth", [50, 200, 400, 700, 900, 960, 990, 5000])
@pytest.mark.parametrize("route", ["predict", "batch"])
def test_items_nested_deep_are_refused_or_answered(
    version: ModelVersion, here: worker.Worker, api: APIClient, route: str, depth: int
) -> None:
    body = f'{{"model": "tiny", "inputs": [{{"x": {nested(depth)}}}, {{"x": 1}}]}}'
    response: Any = api.post(
        f"{INFERENCE}/{route}", body, content_type="application/json",
        headers={"Prefer": "wait=0"},
    )  # fmt: skip
    assert response.status_code in (200, 202, 400, 422)
    if response.status_code == 200:
        assert response.json()["outputs"][1] == {"y": 2}


@pytest.mark.parametrize(
    "path",
    ["%00", "a%00b", "%F0%9F%A7%AA", "..", "%2e%2e%2fx", "a" * 3000, "a%0ab", "%FF"],
)
def test_odd_names_in_an_address_are_refused(
    version: ModelVersion, api: APIClient, path: str
) -> None:
    for where in (path, f"{path}/versions", f"{path}/versions/1", f"{path}/aliases/a"):
        assert api.get(f"{MODELS}/{where}").status_code in (400, 404, 405)
    assert api.delete(f"{MODELS}/tiny/aliases/{path}").status_code in (400, 404)
    moved = api.post(f"{MODELS}/tiny/aliases/{path}", {"version": 1}, format="json")
    assert moved.status_code in (400, 403, 404, 422)


@pytest.mark.parametrize(
    "value", ["1e400", "-1e400", "NaN", "9" * 5000, '"\\u0000"', '"\\ud800"', "true"]
)
def test_odd_values_hurt_nobody(
    version: ModelVersion, here: worker.Worker, api: APIClient, value: str
) -> None:
    body = f'{{"model": "tiny", "inputs": [{{"x": {value}}}, {{"x": 1}}]}}'
    response: Any = api.post(
        f"{INFERENCE}/predict", body, content_type="application/json"
    )
    assert response.status_code in (200, 400)
    if response.status_code == 200:
        assert response.json()["outputs"][1] == {"y": 2}
    else:
        assert "sys." not in response.json()["detail"]


def test_an_empty_cache_has_a_status(
    inference_node: Node, cache: ModelCache, api: APIClient
) -> None:
    response = api.get(f"{INFERENCE}/status")
    assert response.status_code == 200
    one = response.json()["workers"][0]
    assert (one["name"], one["hits"], one["models"]) == ("inference@one", 0, [])
