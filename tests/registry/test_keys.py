from __future__ import annotations

import datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client

from registry.models import ApiKey
from registry.models.key import SCOPES
from tests.conftest import Clock

pytestmark = pytest.mark.django_db


def test_a_key_is_kept_as_its_digest_alone(alice: User) -> None:
    row, secret = ApiKey.make(alice, "laptop")
    kept = ApiKey.objects.filter(pk=row.pk).values().get()
    assert secret.startswith("cmp_")
    assert len(secret) > 40
    assert secret not in str(kept)
    assert secret.startswith(row.prefix)
    assert len(row.prefix) == 12
    assert kept["sha256"] == ApiKey.digest(secret)
    assert secret[12:] not in str(row)


def test_no_two_keys_are_alike(alice: User) -> None:
    assert len({ApiKey.make(alice, "k")[1] for _ in range(20)}) == 20


def test_a_key_has_all_scopes_unless_some_are_named(alice: User) -> None:
    assert set(ApiKey.make(alice, "all")[0].scopes) == set(SCOPES)
    some, _ = ApiKey.make(alice, "some", ["submit", "read", "read"])
    assert some.scopes == ["read", "submit"]


def test_a_key_is_valid_until_it_expires(alice: User, time: Clock) -> None:
    end = time() + datetime.timedelta(days=1)
    row, _ = ApiKey.make(alice, "day", expires_at=end)
    assert row in ApiKey.objects.valid()
    time.forward(hours=23.9)
    assert row in ApiKey.objects.valid()
    time.forward(hours=0.1)
    assert row not in ApiKey.objects.valid()


def test_a_revoked_key_is_not_valid(alice: User, time: Clock) -> None:
    row, _ = ApiKey.make(alice, "lost")
    other, _ = ApiKey.make(alice, "kept")
    ApiKey.objects.filter(pk=row.pk).update(revoked_at=time())
    assert list(ApiKey.objects.valid()) == [other]


def test_the_keys_of_an_inactive_user_are_not_valid(alice: User) -> None:
    row, _ = ApiKey.make(alice, "k")
    assert row in ApiKey.objects.valid()
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert row not in ApiKey.objects.valid()


def test_a_nul_in_a_cookie_is_malformed_and_not_looked_up(client: Client) -> None:
    client.cookies["sessionid"] = "a" * 20 + "\x00"
    for address in ("/api/v1/tasks", "/admin/"):
        answer = client.get(address)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
