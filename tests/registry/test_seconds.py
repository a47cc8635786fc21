"""A second version beside the one that an alias names: a share of the requests, or a shadow."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.test import Client
from rest_framework.test import APIClient

from registry.models import Alias, ModelVersion, Second
from registry.tally import Tally
from tests.conftest import client_of
from tests.inference import tiny
from tests.inference.conftest import tiny_recipe  # noqa: F401
from tests.registry.admin_pages import at

ALIAS = "/api/v1/models/m/aliases/champion"
SPLIT = {"version": 1, "split": {"version": 2, "weight": 0.25}}
SHADOW = {"version": 1, "shadow": {"version": 2}}


@pytest.fixture
def versions(alice: User) -> list[ModelVersion]:
    return [tiny.make_version("m", float(n), alice) for n in range(3)]


def put(client: APIClient, body: Any) -> Any:
    return client.post(ALIAS, body, format="json")


def test_an_alias_may_split(versions: list[ModelVersion], api: APIClient) -> None:
    made = put(api, SPLIT)
    assert made.status_code == 200
    body = api.get(ALIAS).json()
    assert body == made.json()
    assert (body["version"], body["shadow"]) == (1, None)
    assert (body["split"]["version"], body["split"]["weight"]) == (2, 0.25)
    none = {"count": 0, "errors": 0, "p50": None, "p99": None}
    assert body["split"]["answered"] == {"1": none, "2": none}


def test_an_alias_may_have_a_shadow(
    versions: list[ModelVersion], api: APIClient
) -> None:
    body = put(api, SHADOW).json()
    assert (body["version"], body["split"]) == (1, None)
    shadow = body["shadow"]
    assert shadow["version"] == 2
    assert (shadow["compared"], shadow["dropped"]) == (0, 0)
    assert shadow["mean_absolute_difference"] is None
    assert shadow["error_share"] == {"first": None, "second": None}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"version": 1, "split": {"version": 2, "weight": 0}}, 422, "split.weight"),
        ({"version": 1, "split": {"version": 2, "weight": 1}}, 422, "split.weight"),
        ({"version": 1, "split": {"version": 2, "weight": -0.1}}, 422, "split.weight"),
        ({"version": 1, "split": {"version": 2, "weight": 50}}, 422, "split.weight"),
        ({"version": 1, "split": {"version": 2, "weight": "0.5"}}, 422, "split.weight"),
        ({"version": 1, "split": {"version": 2, "weight": True}}, 422, "split.weight"),
        ({"version": 1, "split": {"version": 2, "weight": None}}, 422, "split.weight"),
        ({"version": 1, "split": {"version": 2}}, 422, "split.weight"),
        ({"version": 1, "split": {"weight": 0.5}}, 422, "split.version"),
        ({"version": 1, "split": {"version": 1, "weight": 0.5}}, 422, "split.version"),
        ({"version": 1, "split": {"version": 0, "weight": 0.5}}, 422, "split.version"),
        ({"version": 1, "split": [2, 0.5]}, 422, "split"),
        ({"version": 1, "split": {"version": 2, "weight": 0.5, "x": 1}}, 422, "split.x"),
        ({"version": 1, "shadow": {"version": 1}}, 422, "shadow.version"),
        ({"version": 1, "shadow": 2}, 422, "shadow"),
        ({**SPLIT, **SHADOW}, 422, "shadow"),
        ({"version": 1, "split": {"version": 9, "weight": 0.5}}, 404, ""),
        ({"version": 1, "shadow": {"version": 9}}, 404, ""),
        ({"version": 9, "shadow": {"version": 1}}, 404, ""),
    ],
)  # fmt: skip
def test_a_wrong_second_version_changes_nothing(
    versions: list[ModelVersion], api: APIClient, body: Any, status: int, field: str
) -> None:
    versions[2].model.point("champion", versions[2])
    refused = put(api, body)
    assert refused.status_code == status, refused.json()
    assert refused.json()["code"] == ("invalid" if status == 422 else "unknown_model")
    if field:
        assert list(refused.json()["errors"]) == [field]
    assert Alias.objects.get().version == versions[2]
    assert not Second.objects.exists()


def test_only_an_owner_puts_a_version_beside_another(
    versions: list[ModelVersion], api: APIClient, bob: User
) -> None:
    tiny.make_version("m", 9.0, bob)
    body = {"version": 1, "split": {"version": 4, "weight": 0.5}}
    assert put(api, body).status_code == 403
    assert put(client_of(bob, "read", "registry"), SPLIT).status_code == 403


@pytest.mark.parametrize("body", [SPLIT, SHADOW])
def test_a_move_ends_what_stood_beside(
    versions: list[ModelVersion], api: APIClient, body: Any
) -> None:
    put(api, body)
    moved = put(api, {"version": 1}).json()
    assert (moved["split"], moved["shadow"]) == (None, None)
    put(api, body)
    versions[2].model.point("champion", versions[2])
    assert not Second.objects.exists()


def test_a_new_split_begins_to_count_anew(
    versions: list[ModelVersion], api: APIClient
) -> None:
    put(api, SPLIT)
    old = Second.objects.get()
    Second.note(old.pk, counted(versions[0], 3))
    put(api, SPLIT)
    Second.note(old.pk, counted(versions[0], 5))  # of a worker that is late
    answered = api.get(ALIAS).json()["split"]["answered"]
    assert answered["1"]["count"] == 0


def counted(version: ModelVersion, times: int) -> dict[str, Any]:
    tally = Tally()
    for _ in range(times):
        tally.add(0.01)
    return {"answered": {str(version.pk): tally.taken()}}


def test_what_workers_count_adds_up(
    versions: list[ModelVersion], api: APIClient
) -> None:
    put(api, SPLIT)
    for times in (2, 3):
        Second.note(Second.objects.get().pk, counted(versions[1], times))
    answered = api.get(ALIAS).json()["split"]["answered"]
    assert answered["2"]["count"] == 5
    assert answered["2"]["p50"] == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("body", [SPLIT, SHADOW])
def test_a_version_that_stands_beside_is_not_deleted(
    versions: list[ModelVersion], api: APIClient, body: Any
) -> None:
    put(api, body)
    refused = api.delete("/api/v1/models/m/versions/2")
    assert refused.status_code == 409
    assert "champion" in refused.json()["detail"]
    assert api.delete(ALIAS).status_code == 204
    assert api.delete("/api/v1/models/m/versions/2").status_code == 204


def test_the_database_takes_no_weight_that_is_no_share(
    versions: list[ModelVersion],
) -> None:
    alias = versions[0].model.point("champion", versions[0])
    with pytest.raises(IntegrityError), transaction.atomic():
        Second.put(alias, versions[1], 1.5)


def test_an_alias_that_is_not_there_is_404(
    versions: list[ModelVersion], api: APIClient
) -> None:
    assert api.get(ALIAS).json()["code"] == "not_found"
    assert api.get("/api/v1/models/x/aliases/a").json()["code"] == "unknown_model"


@pytest.mark.parametrize("body", [SPLIT, SHADOW])
def test_the_admin_shows_it_and_ends_it(
    admin_client: Client, versions: list[ModelVersion], api: APIClient, body: Any
) -> None:
    put(api, body)
    second = Second.objects.get()
    Second.note(second.pk, counted(versions[0], 41))
    page = admin_client.get(at("second_change", second.pk)).content.decode()
    assert "answered 1 count: 41" in page
    assert (
        "m@champion beside m:2"
        in admin_client.get(at("second_changelist")).content.decode()
    )
    refused = admin_client.post(
        at("modelversion_delete", versions[1].pk), {"post": "yes"}
    )
    assert "m@champion: move or delete it first" in refused.content.decode()
    admin_client.post(at("second_delete", second.pk), {"post": "yes"})
    assert not Second.objects.exists()
    assert Alias.objects.exists()
