"""Models from elsewhere: taken whole, or refused with a code and a sentence, and nothing is left."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient
from safetensors.numpy import save

from registry import imports, pickles, store, trial
from registry.models import Model, ModelVersion, Upload
from tests.conftest import client_of
from tests.inference import sized, tiny
from tests.inference.conftest import tiny_recipe  # noqa: F401
from tests.registry.model_archives import SIZED, files, tar, zipped

MODELS = "/api/v1/models"


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The predictors of the models that were tried out; in tests of the trial itself, for real."""
    seen: list[str] = []

    def run(directory: Any, predictor: str) -> dict[str, Any]:
        seen.append(predictor)
        return {"signature": None}

    monkeypatch.setattr(trial, "run", run)
    return seen


def send(
    client: APIClient, content: bytes, filename: str = "m.tar", **fields: Any
) -> Any:
    fields = {"name": "m", **fields}
    data = {k: v for k, v in fields.items() if v is not None}
    file = SimpleUploadedFile(filename, content)
    return client.post(MODELS, {"file": file, **data}, format="multipart")


def left() -> list[Any]:
    """What stands in the store beside models that have a row, and the rows of uploads."""
    root = store.root()
    names = {one.digest for one in ModelVersion.objects.all()}
    found: list[Any] = [*(root / "aside").glob("*")]
    found += [one for one in (root / "models").glob("*") if one.name not in names]
    return found + list(Upload.objects.all())


def refused(response: Any, status: int, code: str) -> str:
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert str(store.root()) not in response.content.decode()
    assert "Traceback" not in response.content.decode()
    assert left() == []
    assert not ModelVersion.objects.exists()
    assert not Model.objects.exists()
    return str(body["detail"])


def test_an_archive_becomes_the_next_version_with_its_lineage(
    api: APIClient, tried: list[str]
) -> None:
    response = send(api, tar(files()), description="from afar")
    assert response.status_code == 201, response.json()
    assert response["Location"] == f"{MODELS}/m/versions/1"
    body = response.json()
    assert (body["recipe"], body["metrics"]) == ("sized", {"loss": 0.5})
    assert body["owner"] == "alice"
    assert body["signature"]["inputs"] == sized.RECIPE.inputs
    assert body["lineage"]["imported"]["filename"] == "m.tar"
    assert len(body["lineage"]["code"]) == 64
    assert tried == ["tests.inference.sized:Predictor"]
    assert api.get(f"{MODELS}/m").json()["description"] == "from afar"
    assert api.get(f"{MODELS}/m").json()["history"][0]["verb"] == "import"
    assert send(api, tar(files(5))).json()["version"] == 2
    assert left() == []


@pytest.mark.parametrize(
    "content",
    [
        tar(files(), packed=True), tar(files(), at="some-3/"), zipped(files()),
        zipped({f"x/{name}": one for name, one in files().items()}),
    ],
    ids=["gzipped", "in a directory", "zip", "zip in a directory"],
)  # fmt: skip
def test_any_archive_of_the_same_files_has_the_same_digest(
    api: APIClient, content: bytes
) -> None:
    plain = send(api, tar(files())).json()["digest"]
    assert send(api, content, "whatever").json()["digest"] == plain


def test_bytes_alone_are_taken_too(api: APIClient) -> None:
    response = api.generic(
        "POST", f"{MODELS}?name=m", tar(files()), content_type="application/x-tar",
        HTTP_CONTENT_DISPOSITION='attachment; filename="m.tar"',
    )  # fmt: skip
    assert response.status_code == 201, response.content


def test_what_was_exported_is_imported_with_the_same_digest_and_its_lineage(
    api: APIClient, alice: User
) -> None:
    made = tiny.make_version("m", 3.0, alice, metrics={"loss": 0.25})
    exported = b"".join(api.get(f"{MODELS}/m/versions/1/download").streaming_content)  # type: ignore[attr-defined]
    made.model.delete()
    shutil.rmtree(store.root() / "models")  # another installation
    body = send(api, exported, name=None).json()
    assert (body["address"], body["digest"]) == ("m:1", made.digest)
    assert body["metrics"] == {"loss": 0.25}
    assert body["lineage"]["origin"]["digest"] == made.digest
    lineage = api.get(f"{MODELS}/m/versions/1/lineage").json()
    assert lineage["origin"]["model"] == "m"
    again = b"".join(api.get(f"{MODELS}/m/versions/1/download").streaming_content)  # type: ignore[attr-defined]
    with tarfile.open(fileobj=io.BytesIO(again)) as archive:
        assert len(archive.getmembers()) == 4
    assert send(api, again, name="n").json()["digest"] == made.digest


def test_every_flipped_bit_of_an_exported_archive_is_refused_or_harmless(
    api: APIClient, alice: User
) -> None:
    made = tiny.make_version("m", 3.0, alice)
    exported = b"".join(api.get(f"{MODELS}/m/versions/1/download").streaming_content)  # type: ignore[attr-defined]
    made.model.delete()
    shutil.rmtree(store.root() / "models")
    for at in range(0, len(exported), 997):
        flipped = bytearray(exported)
        flipped[at] ^= 4
        response = send(api, bytes(flipped))
        if response.status_code == 201:  # in the padding, or in what is only shown
            assert response.json()["digest"] == made.digest
            Model.objects.all().delete()
            shutil.rmtree(store.root() / "models")
        else:
            assert response.status_code in (415, 422), response.json()
            assert left() == []


def test_a_bit_flipped_in_the_weights_of_an_export_is_seen(
    api: APIClient, alice: User
) -> None:
    tiny.make_version("m", 3.0, alice)
    exported = b"".join(api.get(f"{MODELS}/m/versions/1/download").streaming_content)  # type: ignore[attr-defined]
    Model.objects.all().delete()
    shutil.rmtree(store.root() / "models")
    weight = np.array([3.0]).tobytes()
    at = exported.index(weight)
    flipped = exported[:at] + b"\1" + exported[at + 1 :]
    text = refused(send(api, flipped), 422, "bad_model")
    assert "not those that were exported" in text


class Harm:
    def __reduce__(self) -> Any:
        return print, ("harm",)


def saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def numpy_objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}, None]), allow_pickle=True)
    return file.getvalue()


PICKLES: dict[str, bytes] = {
    **{f"protocol {n}": pickle.dumps(Harm(), n) for n in range(6)},
    **{f"plain data, protocol {n}": pickle.dumps({"a": [1]}, n) for n in range(6)},
    "torch.save as before 1.6": saved({"w": torch.ones(2)}, _use_new_zipfile_serialization=False),
    "numpy objects": numpy_objects(),
    "joblib zlib": zlib.compress(pickle.dumps(Harm())),
    "joblib gzip": gzip.compress(pickle.dumps(Harm())),
    "joblib bz2": bz2.compress(pickle.dumps(Harm())),
    "joblib xz": lzma.compress(pickle.dumps(Harm())),
    "joblib lzma": lzma.compress(pickle.dumps(Harm()), format=lzma.FORMAT_ALONE),
}  # fmt: skip


@pytest.mark.parametrize("content", PICKLES.values(), ids=PICKLES)
@pytest.mark.parametrize("name", ["model.pkl", "model.onnx", "m.tar"])
def test_a_pickle_is_refused_whatever_its_name(
    api: APIClient, content: bytes, name: str, tried: list[str]
) -> None:
    refused(send(api, content, name), 422, "unsafe_model")
    assert tried == []


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "notes.txt", "vocabulary.json"]
)
@pytest.mark.parametrize(
    "content", [PICKLES["protocol 0"], PICKLES["protocol 4"], PICKLES["numpy objects"]]
)
@pytest.mark.parametrize("pack", [tar, zipped])
def test_a_pickle_in_an_archive_is_refused_whatever_its_name(
    api: APIClient,
    name: str,
    content: bytes,
    pack: Callable[[Any], bytes],
    tried: list[str],
) -> None:
    text = refused(send(api, pack(files() | {name: content})), 422, "unsafe_model")
    assert name in text
    assert tried == []


@pytest.mark.parametrize("name", ["m.pt", "m.tar", "model.onnx", "m.zip"])
def test_what_torch_save_writes_is_refused(api: APIClient, name: str) -> None:
    content = saved({"weight": torch.ones(3)})
    assert "pickle" in refused(send(api, content, name), 422, "unsafe_model")
    script = io.BytesIO()
    with zipfile.ZipFile(script, "w") as archive:
        archive.writestr("m/constants.pkl", pickle.dumps(()))
        archive.writestr("m/code/a.py", "x")
    refused(send(api, script.getvalue(), name), 422, "unsafe_model")


def test_what_torch_save_writes_is_refused_inside_an_archive(api: APIClient) -> None:
    inner = saved({"weight": torch.ones(3)})
    for pack in (tar, zipped):
        sent = send(api, pack(files() | {"model.safetensors": inner}))
        refused(sent, 422, "bad_archive")


def test_texts_and_archives_are_not_taken_for_pickles() -> None:
    texts = [b"{}", b"[1]", b"", b"None.", b"count", b"Some text.\n", b"I am a text.\n"]
    assert [one for one in texts if pickles.is_pickle(one)] == []
    assert not pickles.kind_of(tar({"o.json": b"{}"}, at="t./"))
    assert not pickles.kind_of(save({"w": np.ones(40)}))
    assert not pickles.kind_of(gzip.compress(tar(files(), at="a.b-1/")))


def header(value: Any, rest: bytes = b"") -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(text).to_bytes(8, "little") + text + rest


HUGE = {"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
HOLE = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}
MISFIT = {"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}
BOMB = b'{"w":' + b"[" * 100_000
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no config": ({"config.json": None}, "bad_model"),
    "no weights": ({"model.safetensors": None}, "bad_model"),
    "no recipe": ({"config.json": {"params": {}}}, "bad_model"),
    "versions that are a number": (
        {"config.json": {**SIZED, "config": {"width": 4}, "versions": 7}}, "bad_model",
    ),
    "versions that are a list": (
        {"config.json": {**SIZED, "config": {"width": 4}, "versions": [1]}}, "bad_model",
    ),
    "no params": ({"config.json": {"recipe": "sized"}}, "bad_model"),
    "an unknown recipe": (
        {"config.json": {"recipe": "none", "params": {}}}, "unknown_recipe",
    ),
    "a path as recipe": (
        {"config.json": {"recipe": "../x:y", "params": {}}}, "unknown_recipe",
    ),
    "onnx without a graph": (
        {"config.json": {"recipe": "onnx", "params": {}}}, "unknown_recipe",
    ),
    "params out of bounds": (
        {"config.json": {**SIZED, "params": {"seed": -1}}}, "bad_params",
    ),
    "params that nobody knows": (
        {"config.json": {**SIZED, "params": {"x": 1}}}, "bad_params",
    ),
    "NaN": ({"metrics.json": b'{"loss": NaN}'}, "bad_model"),
    "an infinity": ({"metrics.json": b'{"loss": 1e999}'}, "bad_model"),
    "a NUL": ({"metrics.json": b'{"loss": "\\u0000"}'}, "bad_model"),
    "half a pair": ({"metrics.json": b'{"loss": "\\ud800"}'}, "bad_model"),
    "a bomb": ({"metrics.json": b'{"a":' + b"[" * 100_000}, "bad_model"),
    "a deep one": ({"metrics.json": b'{"a":' + b"[" * 99 + b"]" * 99 + b"}"}, "bad_model"),
    "a huge number": ({"metrics.json": b'{"a": 1' + b"0" * 5000 + b"}"}, "bad_model"),
    "a list": ({"metrics.json": []}, "bad_model"),
    "no JSON": ({"config.json": b"\xff\xfe"}, "bad_model"),
    "no header": ({"model.safetensors": b"\xff" * 100}, "bad_model"),
    "empty": ({"model.safetensors": b""}, "bad_model"),
    "cut": ({"model.safetensors": save({"w": np.ones(9)})[:-1]}, "bad_model"),
    "too long": ({"model.safetensors": save({"w": np.ones(9)}) + b"\0"}, "bad_model"),
    "a terabyte": ({"model.safetensors": header(HUGE)}, "bad_model"),
    "a hole": ({"model.safetensors": header(HOLE, b"\0" * 8)}, "bad_model"),
    "a wrong shape": ({"model.safetensors": header(MISFIT, b"\0" * 8)}, "bad_model"),
    "a header bomb": ({"model.safetensors": header(BOMB)}, "bad_model"),
    "a stranger's file": ({"run.py": b"import os"}, "bad_model"),
    "a text": ({"README": b"hello"}, "bad_model"),
    "a program": ({"model.safetensors": b"\x7fELF" + b"\0" * 99}, "bad_model"),
    "a signature of unknown types": (
        {"signature.json": {"inputs": {"properties": {"x": {"type": ["zebra"]}}}, "outputs": {}}},
        "bad_model",
    ),
    "a signature of no types": (
        {"signature.json": {"inputs": {"type": 7}, "outputs": {}}}, "bad_model",
    ),
    "a field required that there is not": (
        {"signature.json": {"inputs": {"required": ["zebra"]}, "outputs": {}}}, "bad_model",
    ),
    "a word where the required fields stand": (
        {"signature.json": {"inputs": {"required": "x"}, "outputs": {}}}, "bad_model",
    ),
    "a signature without inputs": ({"signature.json": {"outputs": {}}}, "bad_model"),
    "a reference": (
        {"signature.json": {"inputs": {"$ref": "http://10.0.0.1/x"}, "outputs": {}}}, "bad_model",
    ),
    "a hidden reference": (
        {"signature.json": {"inputs": {"properties": {"x": {"items": {"$ref": "#"}}}}, "outputs": {}}},
        "bad_model",
    ),
    "a pattern": (
        {"signature.json": {"inputs": {"properties": {"x": {"pattern": "(a+)+$"}}}, "outputs": {}}},
        "bad_model",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "code"), WRONG.values(), ids=WRONG)
def test_what_is_no_model_is_refused_and_nothing_is_left(
    api: APIClient, changes: dict[str, Any], code: str, tried: list[str]
) -> None:
    refused(send(api, tar(files(**changes))), 422, code)
    assert tried == []


def test_bombs_and_ways_out_are_refused(api: APIClient) -> None:
    bomb = zipped(files() | {"big.json": b" " * 50_000_000})
    assert "100 times" in refused(send(api, bomb), 422, "bad_archive")
    out = tar(files() | {"../out.json": b"{}"})
    refused(send(api, out), 422, "bad_archive")
    nested = zipped({"m.zip": zipped(files())})
    refused(send(api, nested), 422, "bad_archive")
    deeper = tar({f"a/{n}": one for n, one in files().items()} | {"x/b.json": b"{}"})
    refused(send(api, deeper), 422, "bad_model")


@pytest.mark.parametrize(
    ("content", "code", "status"),
    [
        (b"", "bad_data", 422), (b"%PDF-1.4 x", "unsupported_media_type", 415),
        (b"\x7fELF" + b"\0" * 600, "unsupported_media_type", 415),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 600, "unsupported_media_type", 415),
        (zipped({}), "bad_archive", 422), (b"PK\x03\x04" + b"x" * 99, "bad_archive", 422),
    ],
)  # fmt: skip
def test_other_types_are_refused_by_their_content(
    api: APIClient, content: bytes, code: str, status: int
) -> None:
    refused(send(api, content), status, code)


@pytest.mark.parametrize(
    "name", [None, "", "a b", "../x", "a:1", "-a", "ü", "x" * 101, "x" * 201]
)
def test_a_bad_name_is_refused_by_field(
    api: APIClient, name: str | None, tried: list[str]
) -> None:
    response = send(api, tar(files()), name=name)
    refused(response, 422, "invalid")
    assert "name" in response.json()["errors"]
    assert tried == []


def test_importing_needs_the_scope_registry(alice: User) -> None:
    weak = client_of(alice, "read", "submit", "predict")
    assert send(weak, tar(files())).status_code == 403
    assert left() == []


def test_a_file_over_the_limit_is_413(api: APIClient, settings: Any) -> None:
    from dataclasses import replace

    settings.ENVIRONMENT = replace(settings.ENVIRONMENT, model_limit=4000)
    refused(send(api, tar(files(5000))), 413, "too_large")
    wide = zipped(files(**{"more.json": json.dumps({"a": " " * 9000}).encode()}))
    assert len(wide) < 4000
    refused(send(api, wide), 422, "bad_archive")


def test_a_repeated_request_makes_one_version(api: APIClient) -> None:
    content, key = tar(files()), {"HTTP_IDEMPOTENCY_KEY": "k"}

    def again() -> Any:
        file = SimpleUploadedFile("m.tar", content)
        body = {"file": file, "name": "m"}
        return api.post(MODELS, body, format="multipart", **key)

    first, second = again(), again()
    assert first.json() == second.json()
    assert second["Idempotent-Replay"] == "true"
    assert ModelVersion.objects.count() == 1


def test_a_refusal_by_the_database_leaves_no_row(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(imports, "_lineage", fail)
    assert send(api, tar(files())).status_code == 500
    assert not Model.objects.exists()
    assert list((store.root() / "aside").glob("*")) == []
