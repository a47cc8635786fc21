"""Limits of users by REST: set by an administrator, seen by the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from registry.models import Node, Task, Use, UserLimit
from tests.conftest import client_of

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]
HOME = "/api/v1/limits"
NONE = {"tasks": None, "cpus": None, "gpus": None}


@pytest.fixture
def operator(admin: User) -> APIClient:
    return client_of(admin, "read", "admin")


def put(api: APIClient, name: str, body: Any) -> Any:
    return api.put(f"{HOME}/{name}", body, format="json")


def test_a_limit_is_set_whole_read_and_removed(
    operator: APIClient, alice: User
) -> None:
    answer = put(operator, "alice", {"tasks": 3, "cpus": 8})
    assert answer.status_code == 200
    assert answer.json() == {"user": "alice", "tasks": 3, "cpus": 8, "gpus": None}
    assert put(operator, "alice", {"gpus": 0}).json()["cpus"] is None
    assert put(operator, "default", {"tasks": 5}).json()["user"] == "default"
    assert put(operator, "default", {"tasks": 6}).json()["tasks"] == 6
    names = [one["user"] for one in operator.get(HOME).json()["results"]]
    assert names == ["alice", "default"]
    assert operator.get(f"{HOME}/alice").json()["gpus"] == 0
    for _ in range(2):
        assert operator.delete(f"{HOME}/alice").status_code == 204
    assert operator.get(f"{HOME}/alice").status_code == 404
    assert UserLimit.objects.get().user is None


def test_users_see_their_limit_what_they_hold_and_what_is_left(
    api: APIClient, operator: APIClient, alice: User, bob: User, submit: Submit,
    node: Node, time: Any,
) -> None:  # fmt: skip
    assert api.get(f"{HOME}/me").json() == {
        "user": "alice",
        "limit": NONE,
        "in_use": {"tasks": 0, "cpus": 0, "gpus": 0},
        "you_may_use": NONE,
        "use": 0.0,
    }
    put(operator, "default", {"cpus": 4})
    put(operator, "bob", {"tasks": 9})
    submit(cpus=3).assign(node)
    submit(cpus=3)
    Use.add(alice.pk, 120.0, time())
    time.forward(days=1)
    seen = api.get(f"{HOME}/me").json()
    assert seen["limit"] == {**NONE, "cpus": 4}
    assert seen["in_use"] == {"tasks": 1, "cpus": 3, "gpus": 0}
    assert seen["you_may_use"] == {**NONE, "cpus": 1}
    assert seen["use"] == 60.0
    assert client_of(bob).get(f"{HOME}/me").json()["limit"] == {**NONE, "tasks": 9}
    put(operator, "default", {"cpus": 2})
    assert api.get(f"{HOME}/me").json()["you_may_use"]["cpus"] == 0


@pytest.mark.parametrize(
    "body",
    [{"tasks": -1}, {"cpus": "4"}, {"gpus": True}, {"cpus": 1.5}, {"cpus": 10**30},
     {"memory": 1}, {"tasks": [1]}],
    ids=str,
)  # fmt: skip
def test_a_limit_that_is_no_sane_number_is_refused(
    operator: APIClient, alice: User, body: Any
) -> None:
    answer = put(operator, "alice", body)
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == list(body)
    assert not UserLimit.objects.exists()


def test_a_user_who_is_not_there_has_no_limit(operator: APIClient) -> None:
    for call in (operator.get, operator.delete, operator.put):
        answer = call(f"{HOME}/nobody")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_only_an_administrator_sees_and_sets_the_limits_of_others(
    alice: User, operator: APIClient
) -> None:
    mine = client_of(alice, "read", "submit", "admin")
    calls = [mine.get(HOME), mine.get(f"{HOME}/alice"), mine.delete(f"{HOME}/alice")]
    calls.append(put(mine, "alice", {"tasks": 100}))
    assert [answer.status_code for answer in calls] == [403] * 4
    assert APIClient().get(f"{HOME}/me").status_code == 401
    assert mine.get(f"{HOME}/me").status_code == 200
