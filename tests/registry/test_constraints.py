"""What the database itself refuses, whoever writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from registry import clock
from registry.models import (
    Alias,
    ApiKey,
    Attempt,
    IdempotencyKey,
    Model,
    Node,
    Service,
    Task,
    Upload,
)
from registry.states import State
from tests.conftest import Clock
from tests.registry.lives import bring, snapshot

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]
NOW = "2026-01-05T09:00:00Z"
IMPOSSIBLE: dict[str, tuple[State, dict[str, Any]]] = {
    "an unknown state": (State.PENDING, {"state": "sleeping"}),
    "an unknown kind": (State.PENDING, {"kind": "dance"}),
    "an unknown lane": (State.PENDING, {"lane": "tpu"}),
    "completed without an end": (State.RUNNING, {"state": "completed"}),
    "cancelled without an end": (State.PENDING, {"state": "cancelled"}),
    "failed without an end": (
        State.RUNNING,
        {"state": "failed", "reason": "error", "message": "It broke."},
    ),
    "pending with an end": (State.PENDING, {"finished_at": NOW}),
    "running with an end": (State.RUNNING, {"finished_at": NOW}),
    "paused with an end": (State.PAUSED, {"finished_at": NOW}),
    "an end taken back": (State.COMPLETED, {"finished_at": None}),
    "revived with its end": (State.CANCELLED, {"state": "pending"}),
    "assigned without a node": (State.ASSIGNED, {"node": None}),
    "assigned from nowhere": (State.PENDING, {"state": "assigned"}),
    "assigned without a time": (State.ASSIGNED, {"assigned_at": None}),
    "assigned without an attempt": (State.ASSIGNED, {"attempt": 0}),
    "running without a node": (State.RUNNING, {"node": None}),
    "running without a start": (State.RUNNING, {"started_at": None}),
    "running without a beat": (State.RUNNING, {"beat_at": None}),
    "running from a mere assignment": (State.ASSIGNED, {"state": "running"}),
    "failed without a reason": (State.FAILED, {"reason": ""}),
    "failed without a sentence": (State.FAILED, {"message": ""}),
    "a negative attempt": (State.PENDING, {"attempt": -1}),
    "negative CPUs": (State.PENDING, {"cpus": -1}),
    "negative memory": (State.PENDING, {"memory": -1}),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_a_task_cannot_be(case: str, node: Node, submit: Submit, time: Clock) -> None:
    state, changes = IMPOSSIBLE[case]
    task = bring(submit(), state, node)
    before = snapshot(task)
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.filter(pk=task.pk).update(**changes)
    assert snapshot(task) == before


@pytest.mark.parametrize("state", list(State), ids=str)
def test_every_state_that_the_verbs_reach_is_possible(
    state: State, node: Node, submit: Submit
) -> None:
    assert bring(submit(), state, node).state == state


def test_a_task_has_one_live_attempt(node: Node, submit: Submit) -> None:
    task = bring(submit(), State.RUNNING, node)
    with pytest.raises(IntegrityError), transaction.atomic():
        task.attempts.create(number=2, node=node, assigned_at=clock.now())
    task.attempts.update(finished_at=clock.now())
    task.attempts.create(number=2, node=node, assigned_at=clock.now())
    assert task.attempts.count() == 2


def test_the_number_of_an_attempt_is_used_once(node: Node, submit: Submit) -> None:
    task = bring(submit(), State.COMPLETED, node)
    with pytest.raises(IntegrityError), transaction.atomic():
        task.attempts.create(
            number=1, node=node, assigned_at=clock.now(), finished_at=clock.now()
        )
    assert Attempt.objects.count() == 1


def test_a_node_with_history_cannot_be_deleted(node: Node, submit: Submit) -> None:
    bring(submit(), State.COMPLETED, node)
    with pytest.raises(ProtectedError):
        node.delete()


def test_a_name_is_one_node(node: Node) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Node.objects.create(
            name=node.name,
            lane="cpu",
            incarnation="x",
            cpus=1,
            memory=1,
            host="h",
            pid=1,
            registered_at=clock.now(),
            beat_at=clock.now(),
        )


def test_a_model_version_has_a_number_of_its_own(alice: User) -> None:
    model = Model.objects.create(name="m", created_at=clock.now())
    other = Model.objects.create(name="o", created_at=clock.now())
    fields = {"digest": "d", "weights_sha256": "w", "size": 1, "recipe": "r"}
    first = model.register(**fields)
    assert (first.number, other.register(**fields).number) == (1, 1)
    with pytest.raises(IntegrityError), transaction.atomic():
        model.versions.create(number=1, created_at=clock.now(), **fields)
    first.delete()
    assert model.register(**fields).number == 2


def test_an_alias_names_one_version_and_protects_it(alice: User) -> None:
    model = Model.objects.create(name="m", created_at=clock.now())
    fields = {"digest": "d", "weights_sha256": "w", "size": 1, "recipe": "r"}
    one, two = model.register(**fields), model.register(**fields)
    model.point("champion", one)
    with pytest.raises(IntegrityError), transaction.atomic():
        Alias.objects.create(
            model=model, name="champion", version=two, moved_at=clock.now()
        )
    assert model.point("champion", two).version == two
    assert model.aliases.get().version == two
    with pytest.raises(ProtectedError):
        two.delete()
    one.delete()


def test_a_sealed_upload_has_its_digest(alice: User) -> None:
    fields = {"filename": "a.csv", "owner": alice, "state": "sealed"}
    times = {"created_at": clock.now(), "touched_at": clock.now()}
    with pytest.raises(IntegrityError), transaction.atomic():
        Upload.objects.create(**fields, **times)
    assert Upload.objects.create(**fields, **times, sha256="ab" * 32).pk


def test_an_address_is_one_instance_of_a_service() -> None:
    fields: dict[str, Any] = {
        "service_name": "s",
        "host": "h",
        "port": 1,
        "incarnation": "x",
        "state": "up",
        "registered_at": clock.now(),
        "beat_at": clock.now(),
    }
    Service.objects.create(**fields)
    with pytest.raises(IntegrityError), transaction.atomic():
        Service.objects.create(**fields)
    assert Service.objects.create(**{**fields, "port": 2}).pk


def test_keys_are_unique(alice: User, bob: User) -> None:
    row, _ = ApiKey.make(alice, "one")
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.create(
            user=bob, name="two", sha256=row.sha256, created_at=clock.now()
        )
    same = {"key": "k", "request": "r", "status": 201, "created_at": clock.now()}
    IdempotencyKey.objects.create(user=alice, **same)
    IdempotencyKey.objects.create(user=bob, **same)
    with pytest.raises(IntegrityError), transaction.atomic():
        IdempotencyKey.objects.create(user=alice, **same)
