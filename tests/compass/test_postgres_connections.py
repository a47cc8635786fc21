"""What a connection to PostgreSQL is like, whatever the tests themselves run on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import dj_database_url
import pytest
from django.db.utils import ConnectionHandler, OperationalError

from compass import patience
from tests import postgres
from tests.chaos.proxy import Proxy

pytestmark = pytest.mark.django_db


def test_no_plan_is_compiled() -> None:
    handler = ConnectionHandler({"default": dj_database_url.parse(postgres.url())})
    connection: Any = handler["default"]
    for _ in range(2):  # a new connection is told again
        try:
            with connection.cursor() as cursor:
                cursor.execute("SHOW jit")
                assert cursor.fetchone() == ("off",)
        finally:
            connection.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(patience, "QUIET", 0.05)
    monkeypatch.setattr(patience, "ANSWERS_WITHIN", 0.2)
    server = dj_database_url.parse(postgres.url())
    one = Proxy((server["HOST"] or "127.0.0.1", int(server["PORT"] or 5432)))
    yield one
    one.close()


@pytest.fixture
def connection(proxy: Proxy) -> Iterator[Any]:
    server = dj_database_url.parse(postgres.url())
    address: Any = {"HOST": proxy.host, "PORT": proxy.port, "CONN_MAX_AGE": None}
    handler = ConnectionHandler({"default": {**server, **address}})
    one: Any = handler["default"]
    one.inc_thread_sharing()
    yield one
    proxy.speak()
    one.close()


def answer(connection: Any, statement: str = "SELECT 7", *about: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, about or None)
        return cursor.fetchone()[0]


def test_a_server_that_falls_silent_is_given_up_and_found_again(
    proxy: Proxy, connection: Any
) -> None:
    assert answer(connection) == 7
    proxy.hush()
    failed: list[OperationalError] = []

    def ask() -> None:
        try:
            answer(connection)
        except OperationalError as error:
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(20)
    assert ["no sign of life" in str(error) for error in failed] == [True]
    proxy.speak()
    connection.close_if_unusable_or_obsolete()
    assert answer(connection) == 7


def test_a_server_that_lives_may_take_as_long_as_it_likes(connection: Any) -> None:
    assert answer(connection, "SELECT 8 FROM pg_sleep(0.5)") == 8


def test_a_server_that_refuses_newcomers_lives(
    proxy: Proxy,
) -> None:
    """As one that shuts down once its sessions have ended."""
    refuse = socket.create_server(("127.0.0.1", 0))
    server = SimpleNamespace(host="127.0.0.1", hostaddr="", port=0)
    server.port = refuse.getsockname()[1]
    threading.Thread(target=lambda: refuse.accept()[0].close()).start()
    assert patience.lives(server)  # type: ignore[arg-type]
    assert not patience.lives(server)  # type: ignore[arg-type]
    refuse.close()
    assert patience.lives(server)  # type: ignore[arg-type]


def test_what_a_server_that_lives_is_slow_to_take_is_sent_whole(
    proxy: Proxy, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []

    def lives(server: Any) -> bool:
        looks.append(server)
        if len(looks) == 3:
            proxy.speak()
        return True

    assert answer(connection) == 7
    monkeypatch.setattr(patience, "lives", lives)
    proxy.hush()
    large = "x" * 16 * 1024**2  # more than the kernel's buffers hold
    assert answer(connection, "SELECT length(%s)", large) == len(large)
    assert len(looks) >= 3
