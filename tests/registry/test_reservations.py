"""Reservations by REST: what may be kept, for whom and when."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from registry.models import Node, Reservation
from registry.resources import GIB
from tests.conftest import Clock, client_of, make_node

pytestmark = pytest.mark.django_db

HOME = "/api/v1/reservations"


@pytest.fixture
def operator(admin: User) -> APIClient:
    return client_of(admin, "read", "admin")


@pytest.fixture
def body(node: Node, alice: User, time: Clock) -> dict[str, Any]:
    return {
        "name": "course",
        "node": node.name,
        "resources": {"cpus": 2},
        "starts_at": at(time, 1),
        "ends_at": at(time, 3),
        "users": ["alice"],
        "note": "The course.",
    }


def at(time: Clock, hours: float) -> str:
    return (time() + datetime.timedelta(hours=hours)).isoformat()


def post(api: APIClient, body: Any, **headers: str) -> Any:
    return api.post(HOME, body, format="json", headers=headers)


def test_a_reservation_is_made_read_changed_and_removed(
    operator: APIClient, body: Any, node: Node, bob: User, time: Clock
) -> None:
    answer = post(operator, body)
    assert answer.status_code == 201, answer.content
    made = answer.json()
    home = f"{HOME}/{made['id']}"
    assert answer["Location"] == f"/api/v1/reservations/{made['id']}"
    assert (made["node"], made["lane"], made["users"]) == (node.name, "cpu", ["alice"])
    assert made["resources"] == {"cpus": 2, "gpus": 0, "memory": 0}
    assert (made["state"], made["note"]) == ("upcoming", "The course.")
    assert operator.get(home).json() == made
    change = {"users": ["bob"], "ends_at": at(time, 5), "resources": {"memory": GIB}}
    changed = operator.patch(home, change, format="json").json()
    assert (changed["users"], changed["starts_at"]) == (["bob"], made["starts_at"])
    assert changed["resources"] == {"cpus": 2, "gpus": 0, "memory": GIB}
    assert operator.delete(home).status_code == 204
    assert operator.get(home).status_code == 404
    assert operator.delete(home).status_code == 404


def test_the_list_shows_what_is_not_over_unless_all_is_asked_for(
    operator: APIClient, body: Any, time: Clock
) -> None:
    post(operator, body)
    time.forward(hours=2)
    assert operator.get(HOME).json()["results"][0]["state"] == "active"
    time.forward(hours=1)
    assert operator.get(HOME).json()["results"] == []
    assert operator.get(f"{HOME}?all=true").json()["results"][0]["state"] == "over"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ends_at": "soon"}, "ends_at"),
        ({"ends_at": 5}, "ends_at"),
        ({"node": "cpu@none"}, "node"),
        ({"node": 5}, "node"),
        ({"lane": "tpu"}, "lane"),
        ({"lane": "gpu"}, "node"),
        ({"node": None}, "lane"),
        ({"node": None, "lane": "cpu", "resources": {}}, "resources"),
        ({"resources": {"cpus": -1}}, "resources.cpus"),
        ({"resources": {"cpus": "2"}}, "resources.cpus"),
        ({"resources": {"cpus": 5}}, "resources"),
        ({"resources": {"gpus": 1}}, "resources"),
        ({"node": None, "lane": "cpu", "resources": {"memory": 9 * GIB}}, "resources"),
        ({"users": ["nobody"]}, "users"),
        ({"users": "alice"}, "users"),
        ({"name": ""}, "name"),
        ({"name": "a/b"}, "name"),
        ({"note": "n" * 201}, "note"),
        ({"odd": 1}, "odd"),
    ],
    ids=str,
)
def test_what_cannot_be_kept_is_refused_by_field(
    operator: APIClient, body: Any, change: Any, field: str
) -> None:
    answer = post(operator, body | change)
    assert answer.status_code == 422, answer.content
    assert list(answer.json()["errors"]) == [field]
    assert not Reservation.objects.exists()


@pytest.mark.parametrize(
    ("starts", "ends", "field"),
    [
        (3, 3, "ends_at"),
        (3, 2, "ends_at"),
        (-3, -1, "ends_at"),
        (1, 24 * 400, "ends_at"),
        (24 * 3000, 24 * 3001, "starts_at"),
    ],
)
def test_a_window_is_in_order_not_past_and_of_sane_length(
    operator: APIClient, body: Any, time: Clock, starts: int, ends: int, field: str
) -> None:
    window = {"starts_at": at(time, starts), "ends_at": at(time, ends)}
    answer = post(operator, body | window)
    assert answer.status_code == 422, answer.content
    assert list(answer.json()["errors"]) == [field]


def test_a_window_may_begin_at_once_and_be_for_nobody(
    operator: APIClient, body: Any, time: Clock
) -> None:
    del body["starts_at"], body["users"]
    made = post(operator, body).json()
    assert (made["state"], made["users"]) == ("active", [])
    assert Reservation.objects.get().starts_at == time()


@pytest.mark.parametrize(
    ("cpus", "starts", "status"),
    [(2, 2, 201), (3, 2, 409), (3, 3, 201), (0, 2, 409), (0, 3, 201)],
)
def test_two_reservations_of_a_node_at_one_time_fit_it_together(
    operator: APIClient, body: Any, node: Node, time: Clock,
    cpus: int, starts: int, status: int,
) -> None:  # fmt: skip
    make_node("cpu@two", host="two")  # the lane has room
    post(operator, body)
    second = {
        "name": "second", "node": node.name, "ends_at": at(time, 9),
        "starts_at": at(time, starts), "resources": {"cpus": cpus},
    }  # fmt: skip
    answer = post(operator, second)
    assert answer.status_code == status, answer.content
    if status == 409:
        assert answer.json()["code"] == "conflict"
        assert "'course'" in answer.json()["detail"]
        assert node.name in answer.json()["detail"]


def test_a_lane_keeps_no_more_than_its_nodes_have(
    operator: APIClient, body: Any, time: Clock
) -> None:
    post(operator, body)
    of_lane = {
        "name": "second", "lane": "cpu", "starts_at": at(time, 2),
        "ends_at": at(time, 9), "resources": {"cpus": 3},
    }  # fmt: skip
    answer = post(operator, of_lane)
    assert (answer.status_code, "the lane cpu" in answer.json()["detail"]) == (
        409,
        True,
    )
    make_node("cpu@two", host="two")
    assert post(operator, of_lane).status_code == 201


def test_a_name_is_taken_once_and_a_change_does_not_meet_itself(
    operator: APIClient, body: Any
) -> None:
    made = post(operator, body).json()
    assert post(operator, body).status_code == 409
    whole = {"resources": {"cpus": 4}, "name": "course"}
    answer = operator.patch(f"{HOME}/{made['id']}", whole, format="json")
    assert answer.status_code == 200, answer.content


def test_a_repeated_request_reserves_once(operator: APIClient, body: Any) -> None:
    answers = [post(operator, body, **{"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1]["Idempotent-Replay"] == "true"
    assert Reservation.objects.count() == 1


def test_everybody_sees_what_is_kept_and_only_an_administrator_keeps_it(
    operator: APIClient, api: APIClient, alice: User, body: Any
) -> None:
    made = post(operator, body).json()
    home = f"{HOME}/{made['id']}"
    assert APIClient().get(HOME).status_code == 401
    assert api.get(HOME).json()["results"] == [made]
    mine = client_of(alice, "read", "submit", "admin")
    assert post(mine, body).status_code == 403
    assert mine.patch(home, {}, format="json").status_code == 403
    assert mine.delete(home).status_code == 403
