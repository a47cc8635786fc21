"""Statements that are kept do as the ORM does."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.forms import model_to_dict
from django.test.utils import CaptureQueriesContext

from registry import rows
from registry.models import Attempt, Node, Task, TaskEvent
from registry.rows import Found
from registry.states import State
from tests.conftest import Clock, make_node

pytestmark = pytest.mark.django_db

UP = Found(Node, ["name", "gpus", "beat_at"], "WHERE beat_at > %s ORDER BY name")


def test_what_is_found_is_as_the_orm_finds_it(time: Clock) -> None:
    node = make_node(gpus=[{"index": 0, "memory": 5}])
    (found,) = UP.rows(time() - datetime.timedelta(seconds=1))
    assert found == node
    assert (found.name, found.gpus, found.beat_at) == (
        "cpu@one",
        [{"index": 0, "memory": 5}],
        time(),
    )
    assert found.beat_at.tzinfo is not None
    assert UP.rows(time()) == []


def test_a_field_that_was_not_named_loads_when_it_is_read(
    node: Node, django_assert_num_queries: Callable[[int], Any], time: Clock
) -> None:
    with django_assert_num_queries(1):
        (found,) = UP.rows(time() - datetime.timedelta(seconds=1))
        assert found.name == "cpu@one"
    with django_assert_num_queries(1):
        assert found.cpus == node.cpus


def test_a_row_that_is_inserted_is_as_the_orm_saves_it(
    alice: User, time: Clock
) -> None:
    fields: dict[str, Any] = {
        "kind": "train", "state": State.PENDING, "lane": "cpu", "owner": alice,
        "created_at": time(), "params": {"a": [1, None, "\u00e9"]}, "tags": ["x"],
        "time_limit": None, "held": True, "name": "it's 100%s",
    }  # fmt: skip
    mine, other = Task(**fields), Task.objects.create(**fields)
    rows.insert(mine)
    assert mine.pk == other.pk + 1
    kept = Task.objects.get(pk=mine.pk)
    same = model_to_dict(other) | {"id": mine.pk}
    assert model_to_dict(kept) == model_to_dict(mine) == same
    assert kept.created_at == other.created_at
    mine.name = "changed"
    mine.save()  # an update: it knows that it is in the database
    assert Task.objects.count() == 2


def test_rows_that_are_inserted_together_are_as_the_orm_saves_them(
    alice: User, node: Node, time: Clock
) -> None:
    task = Task.objects.submit(kind="train", lane="cpu", owner=alice)
    fields: dict[str, Any] = {
        "task": task, "node": node, "assigned_at": time(), "gpus": [1, 0],
        "message": "100%s", "exit_code": -9, "finished_at": time(),
    }  # fmt: skip
    rows.insert_all([Attempt(number=number, **fields) for number in (1, 2)])
    Attempt.objects.create(number=3, **fields)
    one, two, other = task.attempts.order_by("number")
    for mine, number in ((one, 1), (two, 2)):
        same = model_to_dict(other) | {"id": mine.pk, "number": number}
        assert model_to_dict(mine) == same
    rows.insert_all([])


def test_a_submit_takes_few_statements(
    alice: User, django_assert_max_num_queries: Callable[[int], CaptureQueriesContext]
) -> None:
    with django_assert_max_num_queries(5):  # the savepoint, and PostgreSQL's clock
        task = Task.objects.submit(kind="train", lane="cpu", owner=alice)
    (event,) = TaskEvent.objects.filter(task=task)
    assert (event.verb, event.state) == ("submit", State.PENDING)
