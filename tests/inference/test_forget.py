"""A deleted version leaves the memory of all workers at once, and at the latest when it is asked for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from rest_framework.test import APIClient

from inference import commands, frames, gateway, links
from inference.worker import Worker
from registry import versions
from registry.models import ModelVersion
from tests.conftest import client_of
from tests.inference import tiny
from tests.inference.conftest import Direct
from tests.inference.test_preload import listening, place  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(30)]


@pytest.fixture
def owned(alice: User) -> ModelVersion:
    return tiny.make_version(owner=alice)


@pytest.fixture
def loaded(listening: Worker, owned: ModelVersion) -> Worker:  # noqa: F811
    listening.cache.preload(owned.pk, pin=True)
    return listening


def delete(api: APIClient, status: int = 204) -> None:
    answer = api.delete("/api/v1/models/tiny/versions/1")
    assert answer.status_code == status, answer.content


def test_a_deletion_by_http_frees_its_memory_before_it_returns(
    loaded: Worker, api: APIClient
) -> None:
    delete(api)
    told = loaded.cache.status()
    assert (loaded.cache.ready(), told["models"], told["bytes"]) == ([], [], 0)


def test_a_deletion_by_command_does_so_too(loaded: Worker) -> None:
    call_command("models", "delete", "tiny:1")
    assert loaded.cache.ready() == []


def test_a_deletion_in_the_admin_does_so_too(
    loaded: Worker, admin: User, client: Any, owned: ModelVersion
) -> None:
    client.force_login(admin)
    page = f"/admin/registry/modelversion/{owned.pk}/delete/"
    assert client.post(page, {"post": "yes"}).status_code == 302
    assert loaded.cache.ready() == []


def test_what_is_in_use_goes_when_it_is_given_back(
    loaded: Worker, owned: ModelVersion, api: APIClient
) -> None:
    with loaded.cache.use(owned.pk) as (model, _):
        delete(api)
        assert loaded.cache.ready() == []
        assert model.predict([1.0]) == [{"y": 2.0}]
    assert loaded.cache.status()["bytes"] == 0


def test_a_deletion_that_does_not_come_about_frees_nothing(
    loaded: Worker, owned: ModelVersion, alice: User
) -> None:
    with transaction.atomic():
        versions.delete(ModelVersion.objects.get())
        transaction.set_rollback(True)
    owned.model.point("champion", owned)
    delete(client_of(alice), status=409)
    assert loaded.cache.ready() == [owned.pk]


def test_who_was_not_told_finds_out_at_the_next_request_and_at_the_next_beat(
    loaded: Worker, owned: ModelVersion, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny.make_version("tiny", 2.0)
    loaded.cache.preload(other.pk)
    monkeypatch.setattr(links, "places", list)
    delete(api)
    versions.delete(ModelVersion.objects.get())
    assert set(loaded.cache.ready()) == {owned.pk, other.pk}

    body = {"model": "tiny:1", "inputs": [{"x": 1}]}
    answer = api.post("/api/v1/inference/predict", body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
    loaded._tell()
    assert loaded.cache.ready() == []


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[socket.socket]:
    """A worker that is frozen: its socket takes connections, and nobody speaks."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "silent.sock"))
        one.listen(8)
        place("inference@silent", tmp_path / "silent.sock")
        yield one


def test_a_frozen_worker_holds_up_a_deletion_only_for_a_moment_and_no_other_worker(
    silent: socket.socket,
    loaded: Worker,
    api: APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "FORGET_WITHIN", 0.2)
    monkeypatch.setattr(commands, "CONNECT", 1000.0)
    monkeypatch.setattr(links, "CONNECT", 1000.0)
    delete(api)
    assert loaded.cache.ready() == []


def test_a_worker_that_cannot_be_told_is_no_reason_for_a_deletion_to_fail(
    owned: ModelVersion, api: APIClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place("inference@gone", tmp_path / "gone.sock")

    def broken(_: int) -> None:
        raise RuntimeError

    monkeypatch.setattr(versions, "when_deleted", [*versions.when_deleted, broken])
    delete(api)
    assert not ModelVersion.objects.exists()


def test_what_is_deleted_on_its_way_to_a_worker_is_looked_up_again(
    owned: ModelVersion, here: Worker, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny.make_version("tiny", 2.0, owner=alice)
    owned.model.point("champion", owned)

    class Slow(Direct):
        def ask(self, version: int, *args: Any) -> frames.Answer:
            if version == owned.pk:
                owned.model.point("champion", other)
                versions.delete(owned)
            return super().ask(version, *args)

    monkeypatch.setattr(gateway, "_link", lambda _: Slow(here))
    body = {"model": "tiny@champion", "inputs": [{"x": 1}]}
    answer = client_of(alice).post("/api/v1/inference/predict", body, format="json")
    assert (answer.status_code, answer.json()["version"]) == (200, 2)


def test_what_is_deleted_with_its_name_is_not_asked_for_again(
    owned: ModelVersion, here: Worker, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Direct):
        def ask(self, version: int, *args: Any) -> frames.Answer:
            versions.delete(owned)
            return super().ask(version, *args)

    monkeypatch.setattr(gateway, "_link", lambda _: Slow(here))
    body = {"model": "tiny:1", "inputs": [{"x": 1}]}
    answer = api.post("/api/v1/inference/predict", body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
