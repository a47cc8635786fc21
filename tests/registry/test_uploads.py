from __future__ import annotations

import hashlib
import io
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from registry import store, uploads
from registry.errors import Problem
from registry.models import Upload
from tests.conftest import client_of
from tests.registry.uploading import (
    CSV,
    Wire,
    files_left,
    limited,
    row,
    sealed,
    send,
    send_raw,
)

pytestmark = pytest.mark.django_db


def test_a_form_is_kept_and_sealed_in_the_background(api, alice, messages):
    response = send(api, CSV, name="Pairs", description="from the lab")

    assert response.status_code == 201
    shown = response.data
    assert response["Location"] == f"/api/v1/uploads/{shown['id']}"
    assert shown["state"] == "sealing"
    assert shown["sha256"] == hashlib.sha256(CSV).hexdigest()
    assert (shown["size"], shown["received"]) == (len(CSV), len(CSV))
    assert (shown["name"], shown["description"]) == ("Pairs", "from the lab")
    assert (shown["filename"], shown["content_type"]) == ("data.csv", "text/csv")
    assert (shown["owner"], shown["id"]) == ("alice", str(Upload.objects.get().pk))
    assert messages.background == [("registry.seal", [int(shown["id"])])]
    assert store.object_path(shown["sha256"]).read_bytes() == CSV


def test_a_raw_body_is_named_by_its_disposition(api):
    response = send_raw(api, Wire(CSV), len(CSV), "pairs.csv")

    assert response.status_code == 201
    assert (response.data["filename"], response.data["name"]) == ("pairs.csv",) * 2
    assert store.object_path(response.data["sha256"]).read_bytes() == CSV


def test_an_upload_is_shown_while_it_comes(api, monkeypatch):
    monkeypatch.setattr("registry.intake.TOUCH_EVERY", 0.0)
    seen: list[tuple[str, str, int]] = []

    def look() -> None:
        shown = api.get("/api/v1/uploads").data["results"][0]
        seen.append((shown["filename"], shown["state"], shown["received"]))

    content = CSV * 50_000
    assert send_raw(api, Wire(content, look), len(content)).status_code == 201
    assert seen[:2] == [
        ("data.csv", "receiving", 0),
        ("data.csv", "receiving", 1024**2),
    ]


def test_a_raw_body_is_read_in_pieces(api):
    content = b"smiles,affinity\n" + b"CCO,5.5\n" * 500_000
    wire = Wire(content)

    assert send_raw(api, wire, len(content)).status_code == 201
    assert wire.reads >= len(content) / 1024**2


def test_the_name_is_the_files_name_unless_given(api):
    assert send(api, CSV).data["name"] == "data.csv"
    assert send(api, CSV, name="  ").data["name"] == "data.csv"


def test_an_upload_has_its_length_or_is_a_form(api):
    response = send_raw(api, Wire(CSV), None, HTTP_TRANSFER_ENCODING="chunked")

    assert (response.status_code, response.data["code"]) == (411, "length_required")


def test_a_form_may_come_in_chunks_without_a_length(api):
    content = _form(CSV)
    response = _send_chunked(api, content)

    assert response.status_code == 201
    assert response.data["size"] == len(CSV)


def test_a_form_in_chunks_that_was_cut_is_refused(api):
    response = _send_chunked(api, _form(CSV)[:-30])

    assert (response.status_code, response.data["code"]) == (400, "malformed")
    assert files_left() == []


@pytest.mark.parametrize("kept", [0, 1, len(CSV) - 1])
def test_a_cut_body_fails_and_leaves_nothing(api, kept):
    response = send_raw(api, Wire(CSV[:kept]), len(CSV))

    assert (response.status_code, response.data["code"]) == (400, "malformed")
    upload = Upload.objects.get()
    assert (upload.state, upload.reason) == ("failed", "cut_short")
    assert f"{kept} of {len(CSV)} bytes" in upload.message
    assert upload.expires_at is not None
    assert files_left() == []


def test_a_connection_that_breaks_frees_its_slot(api, settings):
    limited(settings, max_concurrent_uploads=1)

    def reset() -> None:
        raise ConnectionResetError

    assert send_raw(api, Wire(b"", reset), 10).status_code == 400
    assert send(api, CSV).status_code == 201


def test_an_error_of_the_server_frees_its_slot(api, settings, monkeypatch):
    limited(settings, max_concurrent_uploads=1)
    with monkeypatch.context() as broken:
        broken.setattr(store, "publish_file", lambda path, sha256: 1 / 0)
        assert send(api, CSV).status_code == 500

    assert Upload.objects.get().state == "failed"
    assert files_left() == []
    assert send(api, CSV).status_code == 201


def test_a_file_over_the_limit_is_refused_by_its_length_alone(api, settings):
    limited(settings, upload_limit=10)
    wire = Wire(b"x" * 100)
    seen: list[int] = []
    wire.on_read = lambda: seen.append(Upload.objects.count())

    response = send_raw(api, wire, 11)

    assert (response.status_code, response.data["code"]) == (413, "too_large")
    # What is read after the answer is thrown away, and no row was ever made for it.
    assert set(seen) <= {0}


def test_a_file_over_the_limit_is_refused_while_it_comes(api, settings):
    limited(settings, upload_limit=len(CSV) - 1)
    response = send(api, CSV)

    assert (response.status_code, response.data["code"]) == (413, "too_large")
    assert files_left() == []
    assert not Upload.objects.exists()


def test_a_file_of_just_the_limit_is_taken(api, settings):
    limited(settings, upload_limit=len(CSV))
    assert send(api, CSV).status_code == 201
    assert send_raw(api, Wire(CSV), len(CSV)).status_code == 201


@pytest.mark.parametrize("name", ["a.exe", "a.py", "csv", "a.csv.bak", "a.gz", "a"])
def test_other_types_are_refused_with_the_list_of_accepted_ones(api, name):
    for response in (send(api, CSV, name), send_raw(api, Wire(CSV), 9, name)):
        assert response.status_code == 415
        assert response.data["code"] == "unsupported_media_type"
        assert ".csv" in response.data["detail"]
        assert ".tar.gz" in response.data["detail"]
    assert not Upload.objects.exists()


def test_a_program_named_csv_is_refused_at_the_door(api):
    response = send(api, b"MZ\x90\x00" + b"\x00" * 600)

    assert response.status_code == 415
    assert "program" in response.data["detail"]
    assert files_left() == []
    assert not Upload.objects.exists()


def test_an_empty_file_is_refused(api):
    for response in (send_raw(api, Wire(b""), 0), _send_form(api, b"")):
        assert (response.status_code, response.data["code"]) == (422, "bad_data")


def test_a_form_without_a_file_is_refused(api):
    response = api.post("/api/v1/uploads", {"name": "x"}, format="multipart")
    assert (response.status_code, list(response.data["errors"])) == (422, ["file"])


def test_a_form_with_two_files_is_refused(api):
    both = [SimpleUploadedFile(name, CSV) for name in ("a.csv", "b.csv")]
    response = api.post("/api/v1/uploads", {"file": both}, format="multipart")

    assert response.status_code == 422
    assert files_left() == []


def test_a_file_in_another_part_is_refused(api):
    given = {"data": SimpleUploadedFile("a.csv", CSV)}
    response = api.post("/api/v1/uploads", given, format="multipart")
    assert (response.status_code, list(response.data["errors"])) == (422, ["data"])


def test_a_body_that_is_neither_is_refused(api):
    response = api.post("/api/v1/uploads", {"a": 1}, format="json")
    assert (response.status_code, list(response.data["errors"])) == (422, ["file"])


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary="]
)
def test_a_form_without_a_boundary_is_malformed(api, content_type):
    response = api.generic("POST", "/api/v1/uploads", b"abc", content_type)
    assert (response.status_code, response.data["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd.csv", "passwd.csv"),
        ("C:\\\\data\\\\pairs.csv", "pairs.csv"),
        ("/srv/x.CSV", "x.CSV"),
        ("Zürich 1.csv", "Zürich 1.csv"),
    ],
)
def test_path_parts_of_a_name_are_stripped(api, given, kept):
    response = _send_form(api, CSV, given)
    assert (response.status_code, response.data.get("filename")) == (201, kept)


@pytest.mark.parametrize(
    "given", ["a\x01b.csv", "a\x7f.csv", "a\u202ecsv.csv", "x" * 252 + ".csv", "a/.."]
)
def test_odd_names_are_refused(api, given):
    response = _send_form(api, CSV, given)

    assert (response.status_code, list(response.data["errors"])) == (422, ["file"])
    assert files_left() == []


def test_a_name_that_is_too_long_or_odd_is_refused(api):
    assert list(send(api, CSV, name="x" * 201).data["errors"]) == ["name"]
    assert list(send(api, CSV, name="a\0b").data["errors"]) == ["name"]
    assert list(send(api, CSV, description="x" * 10_001).data["errors"]) == [
        "description"
    ]
    assert files_left() == []


def test_writing_needs_the_scope_submit(alice):
    response = send(client_of(alice, "read"), CSV)
    assert (response.status_code, response.data["code"]) == (403, "forbidden")
    assert send(client_of(alice, "submit"), CSV).status_code == 201


def test_a_disk_without_room_is_told(api, monkeypatch):
    class Full:
        free = 0

    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    response = send(api, CSV)
    assert (response.status_code, response.data["code"]) == (503, "disk_full")
    assert response["Retry-After"]


def test_the_same_key_and_content_is_one_upload(api):
    first, second = (_send_with_key(api, CSV) for _ in range(2))

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.data["id"] == second.data["id"]
    assert second["Location"] == first["Location"]
    assert second["Idempotent-Replay"] == "true"
    assert Upload.objects.count() == 1
    assert len(files_left()) == 1


def test_the_same_key_with_other_content_is_refused(api):
    _send_with_key(api, CSV)
    response = _send_with_key(api, CSV + b"CCC,7\n")

    assert response.data["code"] == "idempotency_key_reused"
    assert Upload.objects.count() == 1
    assert len(files_left()) == 1


def test_the_list_is_the_users_own_and_can_be_filtered(api, alice, bob):
    row(bob, filename="bobs.csv", name="bobs")
    one = row(alice, filename="one.csv", name="First")
    two = row(
        alice, filename="two.csv", name="2", state="failed", reason="x", message="y"
    )

    def ids(query: str) -> list[str]:
        response = api.get(f"/api/v1/uploads{query}")
        assert response.status_code == 200
        return [item["id"] for item in response.data["results"]]

    assert ids("") == [str(two.pk), str(one.pk)]
    assert ids("?state=failed") == [str(two.pk)]
    assert ids("?q=firs") == [str(one.pk)]
    assert ids("?q=TWO") == [str(two.pk)]
    assert api.get("/api/v1/uploads?state=odd").status_code == 422
    page = api.get("/api/v1/uploads?limit=1").data
    assert [item["id"] for item in page["results"]] == [str(two.pk)]
    assert [item["id"] for item in api.get(page["next"]).data["results"]] == [
        str(one.pk)
    ]


def test_others_uploads_are_not_found(api, bob, admin):
    pk = row(bob, filename="bobs.csv").pk
    for path in (f"/api/v1/uploads/{pk}", f"/api/v1/uploads/{pk}/content"):
        assert api.get(path).status_code == 404
    assert api.delete(f"/api/v1/uploads/{pk}").status_code == 404
    assert client_of(admin).get(f"/api/v1/uploads/{pk}").status_code == 200
    assert api.get(f"/api/v1/uploads/{10**17}").status_code == 404
    assert api.get(f"/api/v1/uploads/{10**30}").status_code == 404


def test_the_older_names_are_the_same(api):
    file = SimpleUploadedFile("data.csv", CSV)
    response = api.post("/api/v1/data/upload", {"file": file}, format="multipart")
    pk = response.data["id"]

    assert response.status_code == 201
    assert api.get(f"/api/v1/data/datasets/{pk}").data["id"] == pk
    listed = api.get("/api/v1/data/datasets").data["results"]
    assert [item["id"] for item in listed] == [pk]


def test_a_deleted_upload_and_its_file_are_gone(api):
    upload = sealed(api, CSV)

    assert api.delete(f"/api/v1/uploads/{upload.pk}").status_code == 204
    assert api.get(f"/api/v1/uploads/{upload.pk}").status_code == 404
    assert files_left() == []


def test_a_file_stays_while_another_upload_names_it(api):
    one, two = sealed(api, CSV), sealed(api, CSV)

    api.delete(f"/api/v1/uploads/{one.pk}")
    assert uploads.dataset_path(two).read_bytes() == CSV
    api.delete(f"/api/v1/uploads/{two.pk}")
    assert files_left() == []


def test_an_upload_that_a_live_task_uses_is_not_deleted(api, submit):
    upload = sealed(api, CSV)
    task = submit(params={"dataset": str(upload.pk)})

    response = api.delete(f"/api/v1/uploads/{upload.pk}")
    assert (response.status_code, response.data["code"]) == (409, "conflict")
    assert f"Task {task.pk}" in response.data["detail"]
    task.request_cancel()
    assert api.delete(f"/api/v1/uploads/{upload.pk}").status_code == 204


def test_a_data_set_is_found_by_its_owner_when_it_is_sealed(api, alice, bob, admin):
    upload = sealed(api, CSV)

    assert uploads.find_dataset(alice, str(upload.pk)) == upload
    assert uploads.find_dataset(admin, str(upload.pk)) == upload
    assert uploads.dataset_path(upload).read_bytes() == CSV
    for user, name in (
        (bob, str(upload.pk)),
        (alice, "0"),
        (alice, "none"),
        (alice, "٣"),
    ):
        with pytest.raises(Problem) as caught:
            uploads.find_dataset(user, name)
        assert caught.value.code == "unknown_dataset"


def test_a_data_set_that_is_not_sealed_says_why(alice):
    receiving = row(alice)
    failed = row(alice, state="failed", reason="bad_data", message="row 2: bad")
    for upload, code in ((receiving, "dataset_not_ready"), (failed, "bad_data")):
        with pytest.raises(Problem) as caught:
            uploads.find_dataset(alice, str(upload.pk))
        assert caught.value.code == code
    assert "row 2: bad" in caught.value.detail


def _send_with_key(api: Any, content: bytes) -> Any:
    given = {"file": SimpleUploadedFile("data.csv", content)}
    return api.post(
        "/api/v1/uploads", given, format="multipart", HTTP_IDEMPOTENCY_KEY="once"
    )


def _form(content: bytes, filename: str = "data.csv") -> bytes:
    head = (
        f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{filename}"'
    )
    return head.encode() + b"\r\n\r\n" + content + b"\r\n--edge--\r\n"


def _send_form(api: Any, content: bytes, filename: str = "data.csv") -> Any:
    kind = "multipart/form-data; boundary=edge"
    return api.generic("POST", "/api/v1/uploads", _form(content, filename), kind)


def _send_chunked(api: Any, content: bytes) -> Any:
    return api.generic(
        "POST",
        "/api/v1/uploads",
        b"",
        "multipart/form-data; boundary=edge",
        HTTP_TRANSFER_ENCODING="chunked",
        **{"wsgi.input": io.BytesIO(content)},
    )
