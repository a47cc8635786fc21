"""Readiness tells the truth about each part."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError, connection
from rest_framework.test import APIClient

from compass import health
from registry import room
from registry.models import Pulse
from tests.conftest import make_node

pytestmark = pytest.mark.django_db


@pytest.fixture
def all_up(time: Any, settings: Any) -> None:
    settings.DATA_DIR.mkdir()
    for lane in ("cpu", "inference", "control"):
        make_node(f"{lane}@one")
    Pulse.record("beat")


def ready() -> Any:
    return APIClient().get("/health/ready")


def test_alive_needs_no_key_and_says_so() -> None:
    assert APIClient().get("/health").json() == {"status": "ok"}


def test_ready_when_every_part_works(all_up: None) -> None:
    answer = ready()
    assert answer.status_code == 200, answer.json()
    assert all(part["ok"] for part in answer.json()["parts"].values())


def failing(answer: Any) -> set[str]:
    assert answer.status_code == 503
    return {name for name, part in answer.json()["parts"].items() if not part["ok"]}


def test_a_silent_worker_is_named(all_up: None, time: Any) -> None:
    time.forward(seconds=16)
    Pulse.record("beat")
    for lane in ("inference", "control"):
        make_node(f"{lane}@one")
    assert failing(ready()) == {"cpu workers"}


def test_beat_that_stopped_ticking_is_named(all_up: None, time: Any) -> None:
    Pulse.objects.update(at=time() - health.BEAT_WITHIN)
    assert failing(ready()) == {"beat"}


def test_a_dead_broker_is_named(all_up: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(health.current_app, "connection", refuse)
    assert failing(ready()) == {"broker"}


def test_the_broker_is_asked_for_a_queue_as_celery_declares_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RabbitMQ refuses the other properties, and so was never ready."""
    told: list[dict[str, Any]] = []
    with health.current_app.connection() as link:
        channel = link.default_channel
        monkeypatch.setattr(
            type(channel), "queue_declare", lambda _, *a, **k: told.append(k)
        )
        health._broker()
    queue = health.current_app.amqp.queues["control"]
    asked = {name: told[0][name] for name in ("durable", "auto_delete")}
    assert asked == {"durable": queue.durable, "auto_delete": queue.auto_delete}


def test_a_full_disk_is_named(all_up: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "DISK", 2**62)
    answer = ready()
    assert failing(answer) == {"disk"}
    detail = answer.json()["parts"]["disk"]["detail"]
    assert " GiB free, " in detail
    assert detail.endswith(f"{2**32}.0 GiB needed")


def test_a_database_that_is_away_is_a_503_and_not_an_error(
    all_up: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "cursor", refuse)
    assert {"database", "beat", "workers"} <= failing(ready())


def test_a_nul_in_an_address_is_malformed_everywhere() -> None:
    for address in ("/api/v1/tasks?q=%00", "/admin/r/1/%00/", "/health?a=%00"):
        answer = APIClient().get(address)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
@pytest.mark.parametrize("address", ["/health", "/health/ready"])
def test_health_is_only_read(method: str, address: str) -> None:
    answer = getattr(APIClient(enforce_csrf_checks=True), method)(address)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("address", ["/api/schema", "/api/docs"])
def test_the_schema_is_open_whatever_the_key(address: str) -> None:
    answer = APIClient().get(address, HTTP_AUTHORIZATION="Bearer wrong")
    assert answer.status_code == 200
