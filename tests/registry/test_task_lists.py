"""How lists are asked of the database, and that what they find stays the same."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from registry import arrays
from registry.models import Condition, Node, Task
from tests.conftest import Clock, client_of, make_node

pytestmark = pytest.mark.django_db
on_postgres = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="only PostgreSQL has it"
)

Submit = Callable[..., Task]
names_found: Any = importlib.import_module("registry.migrations.0009_names_found")


def names(api: APIClient, query: str) -> list[str]:
    answer = api.get(f"/api/v1/tasks?{query}")
    assert answer.status_code == 200, answer.content
    return [row["name"] for row in answer.json()["results"]]


def placed(task: Task, node: Node) -> Task:
    task.assign(node)
    return task


def test_tasks_are_found_by_one_or_several_owners_and_only_what_one_may_see(
    submit: Submit, alice: User, bob: User, admin: User
) -> None:
    submit(name="a")
    submit(name="b", owner=bob)
    submit(name="c", owner=admin)
    everything = client_of(admin, "read", "admin")
    assert names(everything, "owner=alice") == ["a"]
    assert names(everything, "owner=alice,bob") == ["b", "a"]
    assert names(everything, "owner=bob&owner=nobody&owner=bob") == ["b"]
    assert names(everything, "owner=nobody") == []
    assert names(everything, "owner=ALICE") == []
    assert names(client_of(alice), "owner=alice,bob") == ["a"]
    assert names(client_of(alice), "owner=bob") == []


def test_tasks_are_found_by_node_and_by_having_none(
    api: APIClient, submit: Submit, node: Node
) -> None:
    other = make_node("cpu@two")
    placed(submit(name="one"), node)
    placed(submit(name="two"), other)
    submit(name="none")
    assert names(api, "node=cpu@one") == ["one"]
    assert names(api, "node=cpu@two,cpu@one") == ["two", "one"]
    assert names(api, "node=cpu@three") == []
    assert names(api, "node=null") == ["none"]
    assert names(api, "node=null,cpu@one") == ["none", "one"]


def test_several_states_and_reasons_find_each_task_once(
    api: APIClient, submit: Submit
) -> None:
    submit(name="waits")
    submit(name="over").request_cancel()
    assert names(api, "state=pending,cancelled") == ["over", "waits"]
    assert names(api, "state=cancelled&state=cancelled") == ["over"]
    assert names(api, "reason=cancelled_by_user,error") == ["over"]
    assert names(api, "reason=null") == []


def test_what_depends_on_a_task_by_several_conditions_is_found_once(
    api: APIClient, submit: Submit
) -> None:
    first, second = submit(name="first"), submit(name="second")
    for condition in (Condition.AFTEROK, Condition.AFTERANY):
        second.dependencies.create(on=first, on_number=first.pk, condition=condition)
    assert names(api, f"depends_on={first.pk}") == ["second"]
    assert names(api, f"depends_on={second.pk}") == []


def test_no_list_sorts_whole_rows_to_tell_them_apart(
    api: APIClient, submit: Submit, node: Node
) -> None:
    placed(submit(), node)
    for query in (
        "state=pending", "state=pending,failed", "kind=train", "owner=alice",
        "node=cpu@one", "reason=error", "lane=cpu", "template=t", "depends_on=1",
    ):  # fmt: skip
        with CaptureQueriesContext(connection) as asked:
            names(api, query)
        assert not [one["sql"] for one in asked if "DISTINCT" in one["sql"]]


def test_a_page_of_many_takes_no_more_statements_than_one_of_few(
    api: APIClient, submit: Submit, alice: User, node: Node
) -> None:
    def statements(query: str) -> int:
        with CaptureQueriesContext(connection) as asked:
            names(api, query)
        return len(asked)

    def add() -> None:
        first = placed(submit(), node)
        later = submit(held=True)
        later.dependencies.create(on=first, on_number=first.pk, condition="afterok")
        arrays.submit(arrays.parse("0-1"), kind="train", lane="cpu", owner=alice)

    add()
    queries = ("", "elements=true", "node=cpu@one", "state=pending")
    names(api, "")  # the first use of a key is written down
    few = [statements(query) for query in queries]
    for _ in range(3):
        add()
    assert [statements(query) for query in queries] == few


def test_a_list_shows_of_each_task_what_its_own_page_does(
    api: APIClient, submit: Submit, alice: User, node: Node, time: Clock
) -> None:
    first = placed(submit(name="first", params={"a": 1}), node)
    later = submit(held=True)
    for number in (first.pk, later.pk - 1):
        later.dependencies.get_or_create(
            on=first, on_number=number, condition="afterany"
        )
    arrays.submit(
        arrays.parse("0-1"), kind="train", lane="cpu", owner=alice, params={"b": 2}
    )
    rows = api.get("/api/v1/tasks?elements=true").json()["results"]
    assert len(rows) == 5
    for row in rows:
        alone = api.get(row["links"]["self"]).json()
        told = "waiting_for"  # a list counts no lines
        assert {**row, told: []} == {**alone, told: []}


def test_elements_show_what_their_head_asked_for(api: APIClient, alice: User) -> None:
    params = {"recipe": "tabular"}
    head = arrays.submit(
        arrays.parse("0-1"), kind="train", lane="cpu", owner=alice, params=params
    )
    for query in (f"array={head.pk}", "elements=true", ""):
        found = api.get(f"/api/v1/tasks?{query}").json()["results"]
        assert found
        assert all(row["params"] == params for row in found)


def test_texts_in_names_are_found_whatever_their_case(
    api: APIClient, submit: Submit
) -> None:
    for name in ("Affinity 1", "affinity 12", "100%", "a_b", "Übung"):
        submit(name=name)
    assert names(api, "q=AFFIN") == ["affinity 12", "Affinity 1"]
    assert names(api, "q=y+12") == ["affinity 12"]
    assert names(api, "q=%25") == ["100%"]
    assert names(api, "q=_") == ["a_b"]
    assert names(api, "q=bung") == ["Übung"]
    assert names(api, "q=nothing") == []


@on_postgres
def test_names_have_figures_and_an_index_of_their_parts() -> None:
    assert objects() == {"task_name_upper", "task_name_parts"}


@on_postgres
def test_a_user_who_may_not_make_the_extension_goes_without_its_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names_found, "EXTENSION", "CREATE EXTENSION none_such")
    with connection.schema_editor() as editor:
        names_found.forget_names(None, editor)
        assert objects() == set()
        names_found.find_names(None, editor)
    assert objects() == {"task_name_upper"}


def objects() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT stxname FROM pg_statistic_ext WHERE stxname LIKE 'task_name%'"
            " UNION SELECT relname FROM pg_class WHERE relname LIKE 'task_name%'"
        )
        return {name for (name,) in cursor.fetchall()}
