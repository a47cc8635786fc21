from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from tests import postgres

CLOSED = "postgresql://postgres@127.0.0.1:1/postgres"  # nobody listens on port 1


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What this run of the tests itself uses stays as it is."""
    monkeypatch.setenv(postgres.VARIABLE, CLOSED)
    monkeypatch.setattr(postgres, "_guards", [])
    postgres.url.cache_clear()
    yield
    for guard in postgres._guards:
        postgres._end(guard, os.getpid())
    postgres.url.cache_clear()


def asked(address: str, query: str) -> object:
    with psycopg.connect(address) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


def test_where_none_answers_one_is_started_and_removed_with_its_asker() -> None:
    address = postgres.url()
    assert asked(address, "SELECT 1") == 1
    assert os.environ[postgres.VARIABLE] == address == postgres.url()
    (guard,) = postgres._guards
    folder = unquote(urlsplit(address).netloc.rpartition("@")[2])
    assert os.path.isdir(folder)  # noqa: PTH112
    guard.stdin.close()  # as the kernel does for a process that was killed
    assert guard.wait(30) == 0
    assert not os.path.exists(folder)  # noqa: PTH110
    with pytest.raises(psycopg.OperationalError):
        asked(address, "SELECT 1")


def test_a_guard_that_is_told_to_end_takes_its_server_along() -> None:
    address = postgres.url()
    (guard,) = postgres._guards
    guard.send_signal(signal.SIGTERM)
    assert guard.wait(30) == 0
    with pytest.raises(psycopg.OperationalError):
        asked(address, "SELECT 1")


def test_a_server_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    address = postgres.url()
    postgres.url.cache_clear()

    def refuse() -> str:
        raise AssertionError("a second server")

    monkeypatch.setattr(postgres, "_from_wheel", refuse)
    assert postgres.url() == address


@pytest.mark.parametrize("asked", [CLOSED, "none"])
def test_where_neither_works_it_says_so(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(postgres.VARIABLE, asked)

    def no_wheel() -> str:
        raise postgres.NoPostgres("it is not installed")

    monkeypatch.setattr(postgres, "_from_wheel", no_wheel)
    with pytest.raises(postgres.NoPostgres) as caught:
        postgres.url()
    said = str(caught.value)
    assert said.startswith("These tests need PostgreSQL.")
    assert asked in said
    assert "it is not installed" in said
