from __future__ import annotations

import socket
from typing import Any

import pytest
from celery import signals

from compass import worker


class Work:
    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.has_begun = error, False

    def begin(self) -> None:
        self.has_begun = True
        if self.error is not None:
            raise self.error


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    own: dict[str, Any] = {}
    monkeypatch.setattr(worker, "_parts", own)
    return own


def test_a_worker_that_cannot_begin_ends_so_that_it_is_started_again(
    parts: dict[str, Any],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        try:
            socket.create_server(taken.getsockname())
        except OSError as error:
            parts["work"] = Work(error)
    with pytest.raises(SystemExit) as caught:
        signals.worker_ready.send(sender=None)
    assert caught.value.code == 1


def test_a_worker_that_begins_goes_on(parts: dict[str, Any]) -> None:
    parts["work"] = Work()
    signals.worker_ready.send(sender=None)
    assert parts["work"].has_begun
