"""Bodies that come late, without a length, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import RequestFactory
from rest_framework.response import Response
from rest_framework.test import APIClient

from compass import bodies, idle
from compass.api import PROBLEM_JSON, csrf_failure
from compass.bodies import Body, Patient
from compass.idle import Call
from registry.errors import Problem
from registry.idempotency import once
from registry.models import Upload


class Wire:
    def __init__(self, *pieces: bytes) -> None:
        self.left = b"".join(pieces)

    def read(self, size: int) -> bytes:
        piece, self.left = self.left[:size], self.left[size:]
        return piece


def body(content: bytes, most: int | None = None) -> Body:
    return Body(Wire(content), Call("10.0.0.1", 0.0), most=most)


def test_a_body_is_read_whole_or_in_pieces() -> None:
    content = b"x" * (3 * bodies.CHUNK + 5)
    assert body(content).read() == content
    one = body(content)
    assert one.read(7) + one.read(len(content)) == content
    assert one.read(7) == b""
    lines = body(b"a\nbc")
    assert [lines.readline() for _ in range(3)] == [b"a\n", b"bc", b""]


@pytest.mark.parametrize("size", [-1, 10])
def test_a_body_without_a_length_has_a_limit(size: int) -> None:
    assert body(b"x" * 10, most=10).read(size) == b"x" * 10
    with pytest.raises(Problem) as error:
        body(b"x" * 11, most=10).read(size)
    assert error.value.code == "too_large"


def test_json_in_chunks_is_read(settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    seen: list[tuple[str, bytes]] = []

    def application(environ: dict[str, Any], _: Any) -> list[bytes]:
        seen.append((environ["CONTENT_LENGTH"], environ["wsgi.input"].read(100)))
        return [b""]

    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "PATH_INFO": "/api/v1/tasks"}
    Patient(application)({**environ, "wsgi.input": Wire(b"{}")}, print)
    assert seen == [("100", b"{}")]


def test_a_body_that_was_cut_is_a_timeout() -> None:
    one = body(b"{")
    one.call.is_cut = True
    with pytest.raises(Problem) as error:
        one.read()
    assert (error.value.code, error.value.status) == ("timeout_body", 408)


def test_no_more_than_some_threads_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_turns", threading.BoundedSemaphore(1))
    monkeypatch.setattr(bodies, "BRIEF", 0.0)
    assert bodies._turns.acquire(blocking=False)
    with pytest.raises(Problem) as error:
        body(b"{}").read()
    assert (error.value.code, error.value.retry_after) == ("busy", 1)
    bodies._turns.release()
    assert body(b"{}").read() == b"{}"


def test_only_reads_that_stand_still_are_overdue() -> None:
    still = Call("a", 0.0, is_reading=True)
    late = Call("a", 15.0, is_reading=True)
    hidden, busy = Call("b", 0.0, is_reading=True), Call("b", 0.0)
    assert idle.overdue([still, late, hidden, busy], 19.9) == {}
    assert idle.overdue([still, late, hidden, busy], 20.0) == {"a": [still]}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted = server.accept()[0]
        with client, accepted:
            yield client, accepted


def test_a_silent_connection_is_cut_and_still_answers(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, accepted = pair
    client.sendall(b"{")
    assert accepted.recv(1) == b"{"
    assert idle.cut("127.0.0.1") == 0
    assert idle.cut("10.0.0.1") == 0
    monkeypatch.setattr(idle, "PATIENCE", 0.0)
    assert idle.cut("10.0.0.1") == 0
    assert idle.cut("127.0.0.1") == 1
    assert accepted.recv(1) == b""
    accepted.sendall(b"408")
    assert client.recv(3) == b"408"


def test_while_it_reads_a_call_is_known_as_reading() -> None:
    began = time.monotonic()
    with idle.call("a") as one:
        with one.reading():
            assert one.is_reading
            assert one.since >= began
        assert not one.is_reading
        assert one in idle._calls
    assert one not in idle._calls


@pytest.mark.django_db(transaction=True)
def test_a_body_is_read_before_the_database_is_locked() -> None:
    class Asked:
        headers: dict[str, str] = {}

        @property
        def data(self) -> dict[str, Any]:
            seen.append(connection.in_atomic_block)
            return {}

    seen: list[bool] = []
    asked: Any = Asked()
    once(asked, lambda: Response(asked.data))
    assert seen == [False, True]


@pytest.mark.django_db
def test_an_upload_that_stood_still_fails(api: APIClient) -> None:
    class Still:
        def read(self, size: int) -> bytes:
            raise Problem("timeout_body", "It stood still.")

        readline = read

    answer = api.generic(
        "POST",
        "/api/v1/uploads",
        b"",
        "application/octet-stream",
        **{
            "wsgi.input": Still(),
            "CONTENT_LENGTH": "5",
            "HTTP_CONTENT_DISPOSITION": 'attachment; filename="a.csv"',
        },
    )
    assert (answer.status_code, answer.json()["code"]) == (408, "timeout_body")
    assert Upload.objects.get().reason == "cut_short"


def test_a_forged_form_is_a_problem_outside_the_admin() -> None:
    request = RequestFactory().post("/api/x")
    answer = csrf_failure(request)
    assert (answer.status_code, answer["Content-Type"]) == (403, PROBLEM_JSON)
