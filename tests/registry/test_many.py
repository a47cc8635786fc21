"""One order for many tasks: retry, purge and cancel, by id or by what the list shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from registry import many, store
from registry.models import Node, Task
from registry.states import State
from tests.conftest import client_of

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]
HOME = "/api/v1/tasks"


def order(api: APIClient, verb: str, **body: Any) -> Any:
    return api.post(f"{HOME}/{verb}", body, format="json")


@pytest.fixture
def failed(submit: Submit, node: Node) -> Callable[..., Task]:
    def failed(reason: str = "error", **fields: Any) -> Task:
        task = submit(**fields)
        task.assign(node)
        task.start(node)
        task.fail(reason, "It broke.")
        return task

    return failed


def states(*tasks: Task) -> list[str]:
    return [Task.objects.get(pk=task.pk).state for task in tasks]


def test_the_poison_list_is_read_and_retried_by_reason(
    api: APIClient, failed: Callable[..., Task]
) -> None:
    poison = [failed("bad_data"), failed("bad_data")]
    other = failed("error")
    query = f"{HOME}?state=failed&reason=bad_data"
    listed = [row["id"] for row in api.get(query).json()["results"]]
    assert listed == [str(task.pk) for task in poison[::-1]]
    filter_ = {"state": "failed", "reason": "bad_data"}
    answer = order(api, "retry", filter=filter_, **{"from": "start"})
    assert answer.status_code == 200
    ids = [str(task.pk) for task in poison]
    assert answer.json() == {"done": ids, "refused": [], "more": False}
    assert states(*poison, other) == ["pending", "pending", "failed"]
    again = Task.objects.get(pk=poison[0].pk)
    assert (again.resume_from, again.attempts.count()) == ("start", 1)


def test_each_id_is_met_or_refused_by_itself(
    api: APIClient, failed: Callable[..., Task], submit: Submit, bob: User
) -> None:
    good, waiting, theirs = failed(), submit(), failed(owner=bob)
    ids = [str(pk) for pk in (waiting.pk, good.pk, theirs.pk, 10**9, good.pk)]
    answer = order(api, "retry", ids=ids).json()
    assert answer["done"] == [str(good.pk)]
    told = {one["id"]: one["code"] for one in answer["refused"]}
    assert told == {
        str(waiting.pk): "wrong_state",
        str(theirs.pk): "not_found",
        str(10**9): "not_found",
    }
    assert all(one["detail"] for one in answer["refused"])
    assert states(theirs) == ["failed"]


def test_purged_tasks_go_with_their_files_and_live_ones_stay(
    api: APIClient, failed: Callable[..., Task], submit: Submit,
    django_capture_on_commit_callbacks: Any,
) -> None:  # fmt: skip
    gone, live = failed(), submit()
    home = store.task_path(gone.pk)
    home.mkdir(parents=True)
    ids = [str(gone.pk), str(live.pk)]
    with django_capture_on_commit_callbacks(execute=True):
        answer = order(api, "purge", ids=ids).json()
    assert answer["done"] == [str(gone.pk)]
    assert answer["refused"][0]["code"] == "wrong_state"
    assert [task.pk for task in Task.objects.all()] == [live.pk]
    assert not home.exists()


def test_what_waits_and_what_runs_is_cancelled_at_once(
    api: APIClient, submit: Submit, node: Node, messages: Any
) -> None:
    waiting, running, kept = submit(tags=["a"]), submit(tags=["a"]), submit()
    running.assign(node)
    running.start(node)
    filter_ = {"state": ["pending", "running"], "tag": "a"}
    answer = order(api, "cancel", filter=filter_).json()
    assert answer["done"] == [str(waiting.pk), str(running.pk)]
    assert states(waiting, running, kept) == ["cancelled", "running", "pending"]
    assert messages.revoked[-1] == running.celery_id


def test_a_filter_means_what_the_order_can_change_and_at_most_so_many(
    api: APIClient, failed: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MOST", 2)
    tasks = [failed() for _ in range(3)]
    first = order(api, "retry", filter={"reason": "error"}).json()
    assert (len(first["done"]), first["more"]) == (2, True)
    assert order(api, "purge", filter={"state": "pending"}).json()["done"] == []
    rest = order(api, "retry", filter={"reason": "error"}).json()
    assert (rest["done"], rest["more"]) == ([str(tasks[2].pk)], False)


@pytest.mark.parametrize("verb", ["retry", "purge", "cancel"])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "ids"),
        ({"ids": ["1"], "filter": {"state": "failed"}}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": "1"}, "ids"),
        ({"ids": [1]}, "ids[0]"),
        ({"ids": ["x"]}, "ids[0]"),
        ({"ids": ["1"] * 1001}, "ids"),
        ({"filter": {}}, "filter"),
        ({"filter": []}, "filter"),
        ({"filter": {"kind": "train"}}, "filter"),
        ({"filter": {"reason": ""}}, "filter"),
        ({"filter": {"state": "odd"}}, "filter.state"),
        ({"filter": {"state": "failed", "odd": "1"}}, "filter.odd"),
        ({"filter": {"state": "failed", "array": "x"}}, "filter.array"),
        ({"filter": {"state": "failed", "q": {"a": 1}}}, "filter.q"),
        ({"filter": {"state": "failed", "created_after": "soon"}}, "filter.created_after"),
    ],
    ids=str,
)  # fmt: skip
def test_an_order_that_names_nothing_or_everything_is_refused(
    api: APIClient, failed: Callable[..., Task], verb: str, body: Any, field: str
) -> None:
    task = failed()
    answer = order(api, verb, **body)
    assert answer.status_code == 422, answer.content
    assert list(answer.json()["errors"]) == [field]
    assert states(task) == ["failed"]


def test_orders_need_a_key_that_may_submit_and_reach_ones_own_tasks_alone(
    failed: Callable[..., Task], alice: User, bob: User, admin: User
) -> None:
    task = failed()
    assert order(APIClient(), "purge", ids=["1"]).status_code == 401
    assert order(client_of(alice, "read"), "purge", ids=["1"]).status_code == 403
    filter_ = {"state": "failed"}
    assert order(client_of(bob), "purge", filter=filter_).json()["done"] == []
    done = order(client_of(admin), "retry", filter=filter_).json()["done"]
    assert done == [str(task.pk)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("tag=a", "12"),
        ("tag=b", "2"),
        ("tag=%22", ""),
        ("lane=gpu", "3"),
        ("lane=cpu&lane=gpu", "123"),
        ("lane=cpu,gpu", "123"),
        ("state=pending,cancelled", "123"),
        ("state=cancelled", "1"),
        ("kind=script", "2"),
        ("kind=script,train", "123"),
        ("template=t", "1"),
        ("owner=alice,bob", "123"),
        ("owner=bob", ""),
        ("reason=cancelled_by_user,error", "1"),
    ],
)
def test_the_list_is_narrowed_by_one_value_or_several(
    api: APIClient, submit: Submit, query: str, found: str
) -> None:
    submit(name="1", tags=["a"], template="t").request_cancel()
    submit(name="2", tags=["a", "b"], kind="script")
    submit(name="3", tags=["ab"], lane="gpu")
    answer = api.get(f"{HOME}?{query}")
    assert answer.status_code == 200, answer.content
    names = sorted(row["name"] for row in answer.json()["results"])
    assert "".join(names) == found


def test_the_tasks_that_depend_on_another_are_found(
    api: APIClient, submit: Submit
) -> None:
    one, other = submit(), submit()
    for condition in ("afterok", "afterany"):
        other.dependencies.create(on=one, on_number=one.pk, condition=condition)
    rows = api.get(f"{HOME}?depends_on={one.pk}").json()["results"]
    assert [row["id"] for row in rows] == [str(other.pk)]


@pytest.mark.parametrize(
    "query",
    ["state=odd", "lane=tpu", "array=x", "depends_on=-1", "array=9999999999999999999",
     "state=failed,odd", "created_after=soon"],
)  # fmt: skip
def test_a_value_that_cannot_be_is_a_422(api: APIClient, query: str) -> None:
    answer = api.get(f"{HOME}?{query}")
    assert answer.status_code == 422, answer.content
    assert list(answer.json()["errors"]) == [query.partition("=")[0]]


def test_a_task_that_no_pass_has_seen_tells_how_many_come_before_it(
    api: APIClient, submit: Submit
) -> None:
    submit(priority=5), submit(), submit(lane="gpu")
    task = submit()
    told = api.get(f"{HOME}/{task.pk}").json()["waiting_for"]
    assert told == ["2 tasks of its lane are before it in the line."]
    assert task.state == State.PENDING
