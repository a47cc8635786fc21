"""Lanes by REST: what waits on them, and an operator's pause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from registry import arrays, submission
from registry.models import Lane, Node, Task
from tests.conftest import client_of

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]
HOME = "/api/v1/lanes"


@pytest.fixture
def operator(admin: User) -> APIClient:
    return client_of(admin, "read", "admin")


def lane(api: APIClient, name: str = "cpu") -> Any:
    answer = api.get(f"{HOME}/{name}")
    assert answer.status_code == 200
    return answer.json()


def test_each_lane_shows_its_nodes_and_how_much_waits_and_runs(
    api: APIClient, alice: User, submit: Submit, node: Node
) -> None:
    running = submit()
    running.assign(node)
    waiting = [submit(), submit(priority=5)]
    submit(held=True)
    submit(lane="gpu")
    head = submission.accept(
        array=arrays.parse("0-8"), owner=alice, kind="train", lane="inference"
    )
    shown = {one["name"]: one for one in api.get(HOME).json()["results"]}
    assert list(shown) == ["cpu", "gpu", "inference"]
    cpu = shown["cpu"]
    assert (cpu["waiting"], cpu["held"], cpu["running"]) == (2, 1, 1)
    assert (cpu["nodes"], cpu["paused_at"], cpu["note"]) == ([node.name], None, "")
    line = [one["id"] for one in cpu["next_in_line"]]
    assert line == [str(task.pk) for task in waiting[::-1]]
    assert shown["gpu"]["waiting"] == 1
    assert shown["inference"]["waiting"] == head.array_size


def test_a_line_shows_its_first_ten(api: APIClient, submit: Submit) -> None:
    tasks = [submit() for _ in range(11)]
    line = [one["id"] for one in lane(api)["next_in_line"]]
    assert line == [str(task.pk) for task in tasks[:10]]


def test_a_lane_is_paused_with_a_note_and_resumed(
    operator: APIClient, time: Any
) -> None:
    began = time()
    body = {"note": "The disk is being changed."}
    first = operator.post(f"{HOME}/cpu/pause", body, format="json")
    assert first.status_code == 200
    assert (first.json()["note"], bool(first.json()["paused_at"])) == (
        *body.values(),
        True,
    )
    time.forward(seconds=60)
    operator.post(f"{HOME}/cpu/pause", {"note": "Still."}, format="json")
    row = Lane.objects.get(pk="cpu")
    assert (row.paused_at, row.note) == (began, "Still.")
    assert "Still" in row.sentence
    for _ in range(2):
        answer = operator.post(f"{HOME}/cpu/resume")
        assert (answer.status_code, answer.json()["paused_at"]) == (200, None)
    assert Lane.objects.get(pk="cpu").sentence == ""
    operator.post(f"{HOME}/cpu/pause")
    assert Lane.objects.get(pk="cpu").paused_at == time()


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_only_an_administrator_pauses_a_lane(
    alice: User, operator: APIClient, verb: str
) -> None:
    home = f"{HOME}/cpu/{verb}"
    assert APIClient().post(home).status_code == 401
    assert client_of(alice, "read", "submit", "admin").post(home).status_code == 403
    assert not Lane.objects.exclude(paused_at=None).exists()
    for name in ("tpu", "control"):
        assert operator.post(f"{HOME}/{name}/{verb}").status_code == 404
    assert operator.get(f"{HOME}/tpu").status_code == 404


@pytest.mark.parametrize(
    "body", [{"note": 5}, {"note": "n" * 201}, {"note": None}, {"why": "x"}], ids=str
)
def test_an_odd_note_is_refused(operator: APIClient, body: Any) -> None:
    answer = operator.post(f"{HOME}/cpu/pause", body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert not Lane.objects.exists()
