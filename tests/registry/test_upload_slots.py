from __future__ import annotations

import threading

import pytest

from registry.models import Upload
from registry.views import uploads as views
from tests.conftest import client_of
from tests.registry.race import race
from tests.registry.uploading import CSV, Wire, files_left, limited, row, send, send_raw


@pytest.mark.django_db
def test_beyond_the_slots_the_answer_is_503_before_the_body_is_read(
    api, alice, settings, monkeypatch
):
    monkeypatch.setattr(views, "_linger", lambda source: None)
    for _ in range(settings.ENVIRONMENT.max_concurrent_uploads):
        row(alice)
    wire = Wire(CSV)

    response = send_raw(api, wire, len(CSV))

    assert (response.status_code, response.data["code"]) == (503, "uploads_busy")
    assert int(response["Retry-After"]) > 0
    assert wire.reads == 0


@pytest.mark.django_db
def test_after_a_refusal_the_rest_of_the_body_is_read_away(api, alice, settings):
    limited(settings, max_concurrent_uploads=1)
    row(alice)
    wire = Wire(CSV)

    assert send_raw(api, wire, len(CSV)).status_code == 503
    assert wire.content.read() == b""
    assert files_left() == []


@pytest.mark.django_db
def test_an_upload_that_stands_still_loses_its_slot(api, alice, settings, time):
    limited(settings, max_concurrent_uploads=1)
    row(alice)
    assert send(api, CSV).status_code == 503
    time.forward(seconds=31)
    assert send(api, CSV).status_code == 201


@pytest.mark.django_db
def test_bytes_keep_the_slot(api, alice, settings, time, monkeypatch):
    monkeypatch.setattr("registry.intake.TOUCH_EVERY", 0.0)
    limited(settings, max_concurrent_uploads=1)
    others: list[int] = []

    def slowly() -> None:
        time.forward(seconds=20)
        others.append(send(api, CSV).status_code)

    content = CSV * 100_000
    assert send_raw(api, Wire(content, slowly), len(content)).status_code == 201
    assert len(others) > 3
    assert set(others) == {503}


@pytest.mark.django_db
def test_an_upload_whose_slot_was_given_away_ends(api, time, monkeypatch):
    monkeypatch.setattr("registry.intake.TOUCH_EVERY", 0.0)
    wire = Wire(CSV, lambda: time.forward(seconds=31))

    response = send_raw(api, wire, len(CSV))

    assert response.status_code == 400
    assert Upload.objects.get().state == "failed"
    assert files_left() == []


@pytest.mark.django_db
def test_an_upload_deleted_while_it_comes_ends(api, monkeypatch):
    monkeypatch.setattr("registry.intake.TOUCH_EVERY", 0.0)
    wire = Wire(CSV, lambda: Upload.objects.all().delete())

    assert send_raw(api, wire, len(CSV)).status_code == 400
    assert not Upload.objects.exists()
    assert files_left() == []


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_just_the_slots_succeed_and_the_rest_get_503(
    alice, settings, monkeypatch
):
    monkeypatch.setattr(views, "_linger", lambda source: None)
    limited(settings, max_concurrent_uploads=2)
    refused, all_refused = [], threading.Event()
    clients = [client_of(alice) for _ in range(8)]

    def hold() -> None:
        # Whoever holds a slot stays in the body until the other six were refused.
        assert all_refused.wait(timeout=30)

    def upload(index: int) -> int:
        content = CSV + b"CCC,1\n" * index
        response = send_raw(clients[index], Wire(content, hold), len(content))
        if response.status_code == 503:
            refused.append(index)
            if len(refused) == 6:
                all_refused.set()
        return int(response.status_code)

    answers = race([lambda index=index: upload(index) for index in range(8)])

    assert sorted(answers) == [201, 201] + [503] * 6
    assert [one.state for one in Upload.objects.all()] == ["sealing", "sealing"]
