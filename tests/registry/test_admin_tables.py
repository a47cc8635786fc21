from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django_celery_results.models import TaskResult

from registry import clock, tasks
from registry.models import Alias, ApiKey, Model, ModelVersion, Node, Task
from registry.states import State
from tests.conftest import make_node
from tests.registry.admin_pages import act, at, enter, make_version, told


@pytest.fixture
def site(admin: User) -> Client:
    return enter(admin)


@pytest.fixture
def version(alice: User) -> ModelVersion:
    return make_version(alice)


def test_draining_is_all_that_is_set_of_a_node(site: Client, node: Node) -> None:
    beaten = Node.objects.get(pk=node.pk).beat_at
    site.post(at("node_change", node.pk), {"draining": "on", "cpus": "64"})
    after = Node.objects.get(pk=node.pk)
    assert (after.draining, after.cpus, after.beat_at) == (True, 4, beaten)


def test_a_node_that_no_longer_drains_gets_work(
    site: Client, submit: Callable[..., Task],
    django_capture_on_commit_callbacks: Any,
) -> None:  # fmt: skip
    node, task = make_node(draining=True), submit()
    with django_capture_on_commit_callbacks(execute=True):
        site.post(at("node_change", node.pk), {})
    task.refresh_from_db()
    assert task.state == State.ASSIGNED


def test_an_alias_is_made_moved_and_deleted(
    site: Client, version: ModelVersion, alice: User, time: Any
) -> None:
    asked = {"model": version.model_id, "name": "champion", "version": version.pk}
    site.post(at("alias_add"), asked)
    alias = Alias.objects.get()
    assert alias.version == version
    time.forward(hours=1)
    newer = make_version(alice)
    site.post(at("alias_change", alias.pk), {"version": newer.pk})
    alias.refresh_from_db()
    assert (alias.version, alias.moved_at) == (newer, time())
    site.post(at("alias_delete", alias.pk), {"post": "yes"})
    assert not Alias.objects.exists()


def test_an_alias_names_no_version_of_another_model(
    site: Client, version: ModelVersion
) -> None:
    other = Model.objects.create(name="other", created_at=clock.now())
    asked = {"model": other.pk, "name": "champion", "version": version.pk}
    made = site.post(at("alias_add"), asked)
    assert "toy:1 is not a version of that model." in made.content.decode()
    assert not Alias.objects.exists()


@pytest.mark.parametrize("name", ["latest", "a b", "a\x00b", ""])
def test_an_alias_has_a_proper_name(
    site: Client, version: ModelVersion, name: str
) -> None:
    asked = {"model": version.model_id, "name": name, "version": version.pk}
    assert site.post(at("alias_add"), asked).status_code == 200
    assert not Alias.objects.exists()


def test_a_version_that_an_alias_names_is_not_deleted(
    site: Client, version: ModelVersion, alice: User
) -> None:
    free = make_version(alice)
    version.model.point("champion", version)
    refused = site.post(at("modelversion_delete", version.pk), {"post": "yes"})
    site.post(at("modelversion_delete", free.pk), {"post": "yes"})
    assert "toy@champion: move or delete it first" in refused.content.decode()
    assert list(ModelVersion.objects.all()) == [version]


def test_a_key_is_shown_once_and_its_digest_never(site: Client, bob: User) -> None:
    asked = {"user": bob.pk, "name": "ci", "scopes": ["read", "submit"]}
    answer = site.post(at("apikey_add"), asked, follow=True)
    key = ApiKey.objects.get()
    secret = next(text for text in told(answer) if "cmp_" in text).split()[3]
    assert ApiKey.digest(secret) == key.sha256
    assert (key.user, key.scopes) == (bob, ["read", "submit"])
    for address in (at("apikey_changelist"), at("apikey_change", key.pk)):
        text = site.get(address).content.decode()
        assert key.prefix in text
        assert secret not in text
        assert key.sha256 not in text


def test_a_key_is_revoked_once(site: Client, bob: User, time: Any) -> None:
    key, _ = ApiKey.make(bob, "ci")
    revoked = time()
    assert "Revoked 1 key." in told(act(site, "apikey", "revoke", [key]))
    time.forward(hours=1)
    said = told(act(site, "apikey", "revoke", [key]))
    assert said == ["Revoked 0 keys.", "1 of the chosen were revoked before."]
    key.refresh_from_db()
    assert key.revoked_at == revoked


def test_only_a_superuser_makes_keys_for_others(bob: User, admin: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.user_permissions.add(Permission.objects.get(codename="add_apikey"))
    client = Client()
    client.force_login(bob)
    for user in (admin, bob):
        asked = {"user": user.pk, "name": "mine", "scopes": ["read"]}
        client.post(at("apikey_add"), asked)
    assert [key.user for key in ApiKey.objects.all()] == [bob]


def test_the_result_of_background_work_is_shown(
    site: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.clean, "store_eager_result", True)
    done = tasks.clean.apply(task_id="an-id").result
    row = TaskResult.objects.get()
    assert (row.task_name, json.loads(row.result)) == ("registry.clean", done)
    listed = site.get(at("taskresult_changelist", app="django_celery_results"))
    shown = site.get(at("taskresult_change", row.pk, app="django_celery_results"))
    add = site.get(at("taskresult_add", app="django_celery_results"))
    assert "an-id" in listed.content.decode()
    assert "SUCCESS" in shown.content.decode()
    assert add.status_code == 403
