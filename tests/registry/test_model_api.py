from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from registry import store
from registry.models import ModelVersion
from tests.conftest import client_of
from tests.inference import tiny
from tests.inference.conftest import tiny_recipe  # noqa: F401

MODELS = "/api/v1/models"


@pytest.fixture
def versions(alice: User) -> list[ModelVersion]:
    return [tiny.make_version("m", float(n), alice) for n in range(3)]


def point(client: APIClient, alias: str, number: Any, name: str = "m") -> Any:
    where = f"{MODELS}/{name}/aliases/{alias}"
    return client.post(where, {"version": number}, format="json")


def test_models_are_listed_in_pages_with_their_newest_version(
    versions: list[ModelVersion], api: APIClient, alice: User
) -> None:
    tiny.make_version("n", 9.0, alice)
    point(api, "champion", 2)
    first = api.get(MODELS, {"limit": 1}).json()
    assert [one["name"] for one in first["results"]] == ["n"]
    second = api.get(first["next"]).json()["results"][0]
    assert second["versions"] == 3
    assert second["latest"]["address"] == "m:3"
    assert second["latest"]["metrics"] == {"loss": 0.5}
    assert second["aliases"] == {"champion": 2}


def test_listing_many_models_takes_few_queries(
    api: APIClient, alice: User, django_assert_max_num_queries: Any
) -> None:
    for n in range(8):
        tiny.make_version(f"m{n}", float(n), alice)
    with django_assert_max_num_queries(10):
        assert len(api.get(MODELS).json()["results"]) == 8


def test_a_model_shows_its_versions_newest_first(
    versions: list[ModelVersion], api: APIClient
) -> None:
    body = api.get(f"{MODELS}/m").json()
    assert [one["version"] for one in body["newest_versions"]] == [3, 2, 1]
    page = api.get(f"{MODELS}/m/versions", {"limit": 2}).json()
    assert [one["version"] for one in page["results"]] == [3, 2]
    assert page["next"]


def test_a_version_shows_all_that_is_known_of_it(
    versions: list[ModelVersion], api: APIClient
) -> None:
    body = api.get(f"{MODELS}/m/versions/1").json()
    assert body["digest"] == versions[0].digest
    assert body["size"] == versions[0].size
    assert body["signature"]["inputs"] == tiny.RECIPE.inputs
    assert body["params"] == {"seed": 7}
    assert body["owner"] == "alice"
    assert {"metrics", "lineage", "aliases", "recipe", "task"} <= set(body)


@pytest.mark.parametrize(
    "where", ["x", "x/versions/1", "m/versions/9", "m/versions/99999999999999999999"]
)
def test_what_is_not_there_is_404(
    versions: list[ModelVersion], api: APIClient, where: str
) -> None:
    response = api.get(f"{MODELS}/{where}")
    assert response.status_code == 404
    assert response.json()["code"] == "unknown_model"


def test_models_are_shared_for_reading_only(
    versions: list[ModelVersion], api: APIClient, bob: User
) -> None:
    point(api, "champion", 1)
    other = client_of(bob)
    assert other.get(f"{MODELS}/m/versions/1").status_code == 200
    assert point(other, "champion", 2).status_code == 403
    assert other.delete(f"{MODELS}/m/versions/2").status_code == 403
    assert other.delete(f"{MODELS}/m/aliases/champion").status_code == 403
    assert ModelVersion.objects.count() == 3


def test_staff_may_change_any_model(versions: list[ModelVersion], admin: User) -> None:
    staff = client_of(admin)
    assert point(staff, "champion", 2).status_code == 200
    assert staff.delete(f"{MODELS}/m/versions/1").status_code == 204


def test_writing_needs_the_scope_registry(
    versions: list[ModelVersion], alice: User
) -> None:
    weak = client_of(alice, "read", "predict", "submit")
    assert point(weak, "champion", 1).status_code == 403
    assert weak.delete(f"{MODELS}/m/versions/1").status_code == 403
    assert client_of(alice, "predict").get(MODELS).status_code == 403


def test_an_alias_is_set_moved_and_removed(
    versions: list[ModelVersion], api: APIClient
) -> None:
    assert point(api, "champion", 1).json()["version"] == 1
    assert point(api, "champion", 2).json()["version"] == 2
    assert api.get(f"{MODELS}/m/versions/1").json()["aliases"] == []
    assert api.get(f"{MODELS}/m/versions/2").json()["aliases"] == ["champion"]
    assert api.delete(f"{MODELS}/m/aliases/champion").status_code == 204
    assert api.delete(f"{MODELS}/m/aliases/champion").status_code == 404


@pytest.mark.parametrize(
    ("alias", "number", "status"),
    [
        ("latest", 1, 422), ("a b", 1, 422), ("-a", 1, 422), ("a" * 61, 1, 422),
        ("champion", 9, 404), ("champion", "x", 422), ("champion", None, 422),
        ("champion", 0, 422), ("champion", 10**30, 422),
    ],
)  # fmt: skip
def test_a_wrong_alias_or_version_changes_nothing(
    versions: list[ModelVersion], api: APIClient, alias: str, number: Any, status: int
) -> None:
    assert point(api, alias, number).status_code == status
    assert api.get(f"{MODELS}/m").json()["aliases"] == {}


def test_a_version_that_an_alias_names_is_not_deleted(
    versions: list[ModelVersion], api: APIClient
) -> None:
    point(api, "champion", 1)
    response = api.delete(f"{MODELS}/m/versions/1")
    assert response.status_code == 409
    assert response.json()["code"] == "conflict"
    assert "champion" in response.json()["detail"]
    api.delete(f"{MODELS}/m/aliases/champion")
    assert api.delete(f"{MODELS}/m/versions/1").status_code == 204
    assert api.delete(f"{MODELS}/m/versions/1").status_code == 404


def test_a_download_is_the_models_files(
    versions: list[ModelVersion], api: APIClient
) -> None:
    response: Any = api.get(f"{MODELS}/m/versions/2/download")
    content = b"".join(response.streaming_content)
    assert int(response["Content-Length"]) == len(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {one.name: archive.extractfile(one) for one in archive}
        texts = {name: file.read() for name, file in found.items() if file}
    directory = store.model_path(versions[1].digest)
    assert texts == {f"m-2/{p.name}": p.read_bytes() for p in directory.iterdir()}
    assert len(texts) == 4


def test_a_download_goes_on_when_the_files_are_deleted_meanwhile(
    versions: list[ModelVersion], api: APIClient
) -> None:
    response: Any = api.get(f"{MODELS}/m/versions/1/download")
    stream = iter(response.streaming_content)
    begun = next(stream)
    for path in store.model_path(versions[0].digest).iterdir():
        path.unlink()
    content = begun + b"".join(stream)
    assert len(content) == int(response["Content-Length"])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_version_with_a_flipped_bit_is_not_given_away(
    versions: list[ModelVersion], api: APIClient, name: str
) -> None:
    path = store.model_path(versions[0].digest) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    response = api.get(f"{MODELS}/m/versions/1/download")
    assert (response.status_code, response.json()["code"]) == (503, "model_unavailable")
    assert "not those that were registered" in response.json()["detail"]


def test_a_download_without_files_says_so_without_a_path(
    versions: list[ModelVersion], api: APIClient
) -> None:
    directory = store.model_path(versions[0].digest)
    directory.rename(directory.with_name("moved"))
    response = api.get(f"{MODELS}/m/versions/1/download")
    assert response.status_code == 503
    assert response.json()["code"] == "model_unavailable"
    assert str(store.root()) not in response.content.decode()
