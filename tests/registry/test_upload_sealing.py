from __future__ import annotations

import errno

import pytest

from registry import contents, sealing, store, uploads
from registry.models import Upload
from tests.registry.uploading import (
    CSV,
    files_left,
    sealed,
    send,
    special,
    tarred,
    zipped,
)

pytestmark = pytest.mark.django_db


def test_a_good_csv_is_sealed_with_what_it_holds(api):
    upload = sealed(api, CSV)

    shown = api.get(f"/api/v1/uploads/{upload.pk}").data
    assert (shown["state"], shown["reason"], shown["message"]) == ("sealed", "", "")
    assert (shown["rows"], shown["file_count"]) == (2, 1)
    assert shown["columns"] == ["smiles", "affinity"]
    assert shown["preview"][0] == {"smiles": "CCO", "affinity": "5.1"}


def test_bad_data_fails_with_its_place_and_leaves_no_file(api):
    upload = sealed(api, b"a,b\n1,2\n3\n")

    assert (upload.state, upload.reason) == ("failed", "bad_data")
    assert upload.message.startswith("row 2: ")
    assert files_left() == []


def test_an_archive_is_unpacked_beside_its_object(api):
    for name, content in (
        ("a.zip", zipped({"x/one.csv": b"1", "two.csv": b"2"})),
        ("a.tar", tarred(("x/one.csv", b"1"), ("two.csv", b"2"))),
        ("a.tar.gz", tarred(("x/one.csv", b"1"), ("two.csv", b"2"), gzipped=True)),
        ("a.tgz", tarred(("./x/one.csv", b"1"), ("two.csv", b"2"), gzipped=True)),
    ):
        upload = sealed(api, content, name)
        assert (upload.state, upload.message, upload.file_count) == ("sealed", "", 2)
        place = uploads.unpacked_path(upload)
        assert (place / "x" / "one.csv").read_bytes() == b"1"
        assert (place / "two.csv").read_bytes() == b"2"
        uploads.delete(upload)
        assert files_left() == []


def test_a_bad_archive_leaves_nothing(api):
    content = tarred(("good.csv", b"1"), special("link", b"2", "/etc/passwd"))
    upload = sealed(api, content, "a.tar")

    assert (upload.state, upload.reason) == ("failed", "bad_archive")
    assert "link" in upload.message
    assert files_left() == []


def test_sealing_twice_changes_nothing(api):
    upload = sealed(api, zipped({"one.csv": b"1"}), "a.zip")

    assert sealing.seal(upload.pk) == "sealed"
    again = Upload.objects.get(pk=upload.pk)
    assert again.touched_at == upload.touched_at
    assert sealing.seal(10**6) == "deleted"


def test_two_sealings_at_once_give_one_result(api, monkeypatch):
    pk = int(send(api, zipped({"one.csv": b"1"}), "a.zip").data["id"])
    inspect, answers = sealing._inspect, []

    def overtaken(*args):
        found = inspect(*args)
        monkeypatch.setattr(sealing, "_inspect", inspect)
        answers.append(sealing.seal(pk))
        return found

    monkeypatch.setattr(sealing, "_inspect", overtaken)
    answers.append(sealing.seal(pk))

    assert answers == ["sealed", "sealed"]
    upload = Upload.objects.get()
    assert (uploads.unpacked_path(upload) / "one.csv").read_bytes() == b"1"
    assert len(files_left()) == 2


def test_an_upload_deleted_while_it_is_sealed_leaves_nothing(api, monkeypatch):
    pk = int(send(api, zipped({"one.csv": b"1"}), "a.zip").data["id"])
    inspect = sealing._inspect

    def deleted(*args):
        found = inspect(*args)
        uploads.delete(Upload.objects.get())
        return found

    monkeypatch.setattr(sealing, "_inspect", deleted)
    assert sealing.seal(pk) == "deleted"
    assert files_left() == []


def test_sealing_shows_that_it_lives(api, time):
    content = b"a,b\n" + b"1,2\n" * 100
    pk = int(send(api, content).data["id"])
    seconds = iter(range(10_000))

    def tick() -> float:
        time.forward(seconds=1)
        return float(next(seconds))

    sealing.seal(pk, ticks=tick)
    assert Upload.objects.get().state == "sealed"
    assert Upload.objects.get().touched_at > Upload.objects.get().created_at


def test_what_shows_no_life_for_10_seconds_is_sent_again_once(api, time, messages):
    pk = int(send(api, CSV).data["id"])
    messages.background.clear()

    assert sealing.send_again() == 0
    time.forward(seconds=10)
    assert (sealing.send_again(), sealing.send_again()) == (1, 0)
    assert messages.background == [("registry.seal", [pk])]


def test_what_breaks_its_checker_again_and_again_is_given_up(api, monkeypatch):
    pk = int(send(api, CSV).data["id"])
    with monkeypatch.context() as broken:
        broken.setattr(contents, "inspect", lambda *args: 1 / 0)
        for _ in range(sealing.MAX_TRIES):
            with pytest.raises(ZeroDivisionError):
                sealing.seal(pk)
        assert Upload.objects.get().state == "sealing"

    assert sealing.seal(pk) == "failed"
    assert Upload.objects.get().reason == "error"
    assert files_left() == []


def test_a_full_disk_fails_the_upload_and_says_so(api, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    pk = int(send(api, zipped({"one.csv": b"1"}), "a.zip").data["id"])
    monkeypatch.setattr("registry.archives.unpack", full)
    assert sealing.seal(pk) == "failed"
    assert Upload.objects.get().reason == "disk_full"


def test_a_failed_copy_does_not_take_the_file_of_a_sealed_one(api, monkeypatch):
    good = sealed(api, CSV)
    pk = int(send(api, CSV).data["id"])
    Upload.objects.filter(pk=pk).update(tries=sealing.MAX_TRIES)

    assert sealing.seal(pk) == "failed"
    assert store.object_path(good.sha256).read_bytes() == CSV
