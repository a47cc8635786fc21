from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from registry.models import IdempotencyKey, Task
from tests.conftest import client_of
from tests.registry.race import race

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.compass.routes")]


def make(client: APIClient, name: str, key: str | None, path: str = "/make") -> Any:
    headers = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
    return client.post(path, {"name": name}, format="json", **headers)


def test_a_repeated_request_gets_the_first_answer(api: APIClient) -> None:
    first, second = make(api, "a", "k1"), make(api, "a", "k1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert first["Location"] == second["Location"]
    assert second["Idempotent-Replay"] == "true"
    assert "Idempotent-Replay" not in first
    assert Task.objects.count() == 1


def test_the_answer_is_repeated_as_it_was(api: APIClient) -> None:
    first = make(api, "a", "k1")
    Task.objects.update(name="renamed")
    assert make(api, "a", "k1").json() == first.json()


@pytest.mark.parametrize(("name", "path"), [("b", "/make"), ("a", "/other")])
def test_a_key_is_for_one_request(name: str, path: str, api: APIClient) -> None:
    make(api, "a", "k1")
    response = make(api, name, "k1", path)
    assert response.status_code == 422
    assert response.json()["code"] == "idempotency_key_reused"
    assert Task.objects.count() == 1


def test_the_order_of_fields_does_not_matter(api: APIClient) -> None:
    for body in ('{"name": "a", "x": 1}', '{"x": 1, "name": "a"}'):
        response = api.post(
            "/make", body, content_type="application/json", HTTP_IDEMPOTENCY_KEY="k1"
        )
        assert response.status_code == 201
    assert Task.objects.count() == 1


def test_another_key_is_another_request(api: APIClient) -> None:
    ids = {make(api, "a", key).json()["id"] for key in ("k1", "k2", None, None)}
    assert len(ids) == 4


def test_users_do_not_share_keys(api: APIClient, bob: User) -> None:
    theirs = make(client_of(bob), "a", "k1")
    ours = make(api, "a", "k1")
    assert theirs.json() != ours.json()
    assert Task.objects.count() == 2


@pytest.mark.parametrize("key", [None, "k1"])
def test_a_request_that_failed_leaves_nothing_and_may_be_repeated(
    key: str | None, api: APIClient
) -> None:
    for _ in range(2):
        response = make(api, "half", key)
        assert (response.status_code, response.json()["code"]) == (422, "invalid")
        assert "Idempotent-Replay" not in response
    assert not Task.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert make(api, "whole", key).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "a\x7fb"])
def test_an_odd_key_is_refused(key: str, api: APIClient) -> None:
    response = make(api, "a", key)
    assert response.status_code == 422
    assert set(response.json()["errors"]) == {"Idempotency-Key"}
    assert not Task.objects.exists()


@pytest.mark.parametrize("key", ["x" * 255, "a b", "7c9e6679-7425", "\u00e4"])
def test_any_other_key_will_do(key: str, api: APIClient) -> None:
    assert make(api, "a", key).json() == make(api, "a", key).json()


@pytest.mark.django_db(transaction=True)
def test_requests_with_one_key_at_once_make_one_task(alice: User) -> None:
    for number in range(3):
        clients = [client_of(alice) for _ in range(4)]
        name = f"task {number}"
        calls = [lambda c=c, n=name: make(c, n, n) for c in clients]
        answers = race(calls)
        assert [answer.status_code for answer in answers] == [201] * 4, answers
        assert len({answer.json()["id"] for answer in answers}) == 1
        replayed = ["Idempotent-Replay" in answer for answer in answers]
        assert sorted(replayed) == [False, True, True, True]
    assert Task.objects.count() == 3
    assert IdempotencyKey.objects.filter(created_at__lte=timezone.now()).count() == 3


@pytest.mark.django_db(transaction=True)
def test_different_requests_with_one_key_at_once_make_one_task(alice: User) -> None:
    clients = [client_of(alice) for _ in range(4)]
    answers = race(
        [lambda c=c, n=n: make(c, f"task {n}", "k1") for n, c in enumerate(clients)]
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201, 422, 422, 422], answers
    assert Task.objects.count() == 1
