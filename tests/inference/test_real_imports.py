"""Models of the built-in recipes, exported by one installation and imported by another."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from inference import worker
from registry import publish, store
from registry.models import Model, ModelVersion, Task
from tests.inference.test_real_models import affinity, pairs  # noqa: F401
from tests.registry.model_archives import tar
from tests.training.tabular_files import MIXED, QUICK, mixed_rows, train, write_csv

pytestmark = pytest.mark.slow
MODELS = "/api/v1/models"
Sized = Callable[[dict[str, Any]], None]


@pytest.fixture
def tabular(alice: User, tmp_path: Path) -> ModelVersion:
    path = write_csv(tmp_path / "data.csv", MIXED, mixed_rows())
    made = train(path, tmp_path, {**QUICK, "members": 2}).directory
    aside = store.aside()
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made, aside)
    task = Task.objects.submit(kind="train", lane="cpu", owner=alice)
    return publish.register(publish.prepare(aside), task, "tabular")


def exported(api: APIClient, version: ModelVersion) -> bytes:
    where = f"{MODELS}/{version.model.name}/versions/{version.number}/download"
    response: Any = api.get(where)
    return b"".join(response.streaming_content)


def elsewhere() -> None:
    Model.objects.all().delete()
    Task.objects.all().delete()
    shutil.rmtree(store.root() / "models")


def send(api: APIClient, content: bytes) -> Any:
    body = {"file": SimpleUploadedFile("m.tar", content), "name": "m"}
    return api.post(MODELS, body, format="multipart")


def changed(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The archive with another config, and without the word of where it was exported."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {}
        for one in archive:
            file = archive.extractfile(one)
            assert file is not None
            files[one.name.rpartition("/")[2]] = file.read()
    config = json.loads(files["config.json"])
    change(config)
    return tar(files | {"config.json": json.dumps(config).encode()})


def test_an_affinity_model_answers_alike_in_another_installation(
    affinity: ModelVersion,  # noqa: F811
    pairs: list[dict[str, str]],  # noqa: F811
    here: worker.Worker,
    api: APIClient,
) -> None:
    before = here.predict(affinity.pk, pairs)
    content = exported(api, affinity)
    elsewhere()
    response = send(api, content)
    assert response.status_code == 201, response.json()
    assert response.json()["digest"] == affinity.digest
    version = ModelVersion.objects.get()
    assert here.predict(version.pk, pairs) == before
    assert exported(api, version)[:512] != b""

    def wide(config: dict[str, Any]) -> None:
        config["config"]["shape"]["width"] = 10**9

    refused = send(api, changed(content, wide))
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_model")


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["config"]["shape"].update(hidden=[10**9, 10**9]),
        lambda config: config["config"]["shape"].update(members=10**9),
        lambda config: config["config"]["shape"].update(hidden="x"),
        lambda config: config["config"].pop("shape"),
        lambda config: config["config"].update(columns=[]),
        lambda config: config.update(format=99),
        lambda config: config.update(config=[]),
    ],
    ids=["a terabyte", "many", "text", "no shape", "no columns", "format", "list"],
)
def test_a_tabular_config_that_does_not_fit_is_refused(
    tabular: ModelVersion, api: APIClient, change: Sized
) -> None:
    content = changed(exported(api, tabular), change)
    elsewhere()
    response = send(api, content)
    body = response.json()
    assert (response.status_code, body["code"]) == (422, "bad_model"), body
    assert str(store.root()) not in response.content.decode()
    assert not Model.objects.exists()


def test_a_tabular_model_answers_alike_in_another_installation(
    tabular: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    items = tabular.signature["examples"]
    before = here.predict(tabular.pk, items)
    content = exported(api, tabular)
    elsewhere()
    response = send(api, content)
    assert response.status_code == 201, response.json()
    assert response.json()["digest"] == tabular.digest
    assert here.predict(ModelVersion.objects.get().pk, items) == before
