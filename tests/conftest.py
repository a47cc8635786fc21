from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from registry import broker, clock, dispatcher, scheduler
from registry.models import ApiKey, Node, Task
from registry.resources import GIB

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: idle threads spin
# Seconds are measured in bench/: a busy machine is no failure.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


class Clock:
    """The database's clock in a test: it stands still until the test moves it."""

    def __init__(self, moment: datetime.datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime.datetime:
        return self.moment

    def forward(self, **span: float) -> None:
        self.moment += datetime.timedelta(**span)


class Messages:
    """What was sent to the broker, by Celery id; nothing leaves the test."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.revoked: list[str] = []
        self.background: list[tuple[str, list[int]]] = []
        self.told: list[tuple[list[str], str]] = []


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moving = Clock(datetime.datetime(2026, 1, 5, 9, 0, tzinfo=datetime.UTC))
    monkeypatch.setattr(clock, "now", moving)
    monkeypatch.setattr(clock, "in_sql", lambda: ("%s", [moving()]))
    return moving


@pytest.fixture(autouse=True)
def messages(monkeypatch: pytest.MonkeyPatch) -> Messages:
    """No test reaches a broker by accident."""
    seen = Messages()
    monkeypatch.setattr(broker, "send", lambda task: seen.sent.append(task.celery_id))
    monkeypatch.setattr(
        broker,
        "send_many",
        lambda name, queue, tasks: seen.sent.extend(task.celery_id for task in tasks),
    )
    monkeypatch.setattr(
        broker, "revoke", lambda task: seen.revoked.append(task.celery_id)
    )
    monkeypatch.setattr(
        broker, "background", lambda name, args: seen.background.append((name, args))
    )
    monkeypatch.setattr(
        broker,
        "tell",
        lambda names, command, **arguments: seen.told.append((list(names), command)),
    )
    return seen


@pytest.fixture(autouse=True)
def dispatch_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass is over when the wish for it returns; tests/registry/test_dispatcher.py waits."""
    monkeypatch.setattr(dispatcher, "nudge", lambda: scheduler.dispatch())


@pytest.fixture(autouse=True)
def own_files(settings: Any, tmp_path: Path) -> None:
    """Each test has a data directory of its own, for ids come again in a new database."""
    settings.DATA_DIR = tmp_path / "data"


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", password="alice")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", password="bob")


@pytest.fixture
def admin(db: None) -> User:
    return User.objects.create_superuser("admin", password="admin")


def client_of(user: User, *scopes: str) -> APIClient:
    """A client with a key of that user; all scopes but admin unless named."""
    some = scopes or ("read", "submit", "script", "predict", "registry")
    _, secret = ApiKey.make(user, "test", some)
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


@pytest.fixture
def api(alice: User) -> APIClient:
    return client_of(alice)


@pytest.fixture
def node(db: None, request: pytest.FixtureRequest) -> Node:
    """A node up at the test's own time, in whichever order the test names the two."""
    if "time" in request.fixturenames:
        request.getfixturevalue("time")
    return make_node()


def make_node(name: str = "cpu@one", **fields: Any) -> Node:
    defaults: dict[str, Any] = {
        "cpus": 4,
        "memory": 8 * GIB,
        "gpus": [],
        "host": "one",
        "pid": 1,
    }
    return Node.register(name, **{**defaults, **fields})


@pytest.fixture
def submit(alice: User) -> Callable[..., Task]:
    def submit(**fields: Any) -> Task:
        defaults: dict[str, Any] = {"kind": "train", "lane": "cpu", "owner": alice}
        return Task.objects.submit(**{**defaults, **fields})

    return submit
