"""Arrays by REST: what lists show of them, and what may be asked of a whole one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from registry import arrays, store, submission
from registry.models import Node, Task
from registry.states import State

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]
HOME = "/api/v1/tasks"


@pytest.fixture
def array(alice: User) -> Callable[..., Task]:
    def array(text: str = "0-3", **fields: Any) -> Task:
        defaults: dict[str, Any] = {"kind": "train", "lane": "cpu", "owner": alice}
        return submission.accept(array=arrays.parse(text), **{**defaults, **fields})

    return array


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.content
    return [int(row["id"]) for row in answer.json()["results"]]


def states(head: Task) -> list[str]:
    return list(head.elements.order_by("pk").values_list("state", flat=True))


def elements(head: Task) -> list[Task]:
    return list(head.elements.order_by("pk"))


def run(task: Task, node: Node) -> Task:
    task.assign(node)
    task.start(node)
    return task


def post(api: APIClient, task: Task, verb: str, body: Any = None) -> Any:
    return api.post(f"{HOME}/{task.pk}/{verb}", body or {}, format="json")


def test_elements_stand_in_the_list_only_when_asked_for(
    api: APIClient, array: Callable[..., Task], submit: Submit
) -> None:
    head, alone = array(), submit()
    inner = [task.pk for task in elements(head)][::-1]
    assert ids(api.get(HOME)) == [alone.pk, head.pk]
    assert ids(api.get(f"{HOME}?array={head.pk}")) == inner
    assert ids(api.get(f"{HOME}?elements=true")) == [alone.pk, *inner, head.pk]
    assert ids(api.get(f"{HOME}?elements=false")) == [alone.pk, head.pk]
    assert api.get(f"{HOME}/{inner[0]}").json()["array"] == {
        "id": str(head.pk),
        "index": 3,
    }


def test_a_head_shows_its_size_its_limit_and_how_its_elements_are(
    api: APIClient, array: Callable[..., Task], node: Node
) -> None:
    head = array("0-3%2")
    run(elements(head)[0], node).complete({})
    run(elements(head)[1], node)
    arrays.settle()
    shown = api.get(f"{HOME}/{head.pk}").json()
    assert shown["array"] == {"size": 4, "limit": 2}
    counts = {name: shown["progress"][name] for name in State.values}
    assert {name: count for name, count in counts.items() if count} == {
        "pending": 2, "running": 1, "completed": 1,
    }  # fmt: skip
    assert shown["progress"]["fraction"] == 0.25
    assert ids(api.get(shown["links"]["elements"])) == [
        task.pk for task in elements(head)[::-1]
    ]


def test_a_waiting_head_tells_what_its_first_element_waits_for(
    api: APIClient, array: Callable[..., Task]
) -> None:
    head = array()
    assert "accepted" in api.get(f"{HOME}/{head.pk}").json()["waiting_for"][0]
    head.elements.update(waiting_for=["Needs 8 CPUs."])
    assert api.get(f"{HOME}/{head.pk}").json()["waiting_for"] == ["Needs 8 CPUs."]


def test_the_log_of_a_head_is_empty_and_says_where_to_look(
    api: APIClient, array: Callable[..., Task]
) -> None:
    head = array()
    piece = api.get(f"{HOME}/{head.pk}/logs").json()
    assert piece["text"] == ""
    assert f"array={head.pk}" in piece["hint"]
    assert "hint" not in api.get(f"{HOME}/{elements(head)[0].pk}/logs").json()


def test_the_priority_of_a_head_is_its_live_elements_too(
    api: APIClient, array: Callable[..., Task], node: Node
) -> None:
    head = array()
    run(elements(head)[0], node).complete({})
    answer = api.patch(f"{HOME}/{head.pk}", {"priority": 9}, format="json")
    assert answer.json()["priority"] == 9
    assert [task.priority for task in elements(head)] == [0, 9, 9, 9]


def test_a_paused_array_holds_what_waits_and_pauses_what_runs(
    api: APIClient, array: Callable[..., Task], node: Node, time: Any, messages: Any
) -> None:
    head = array()
    one = run(elements(head)[0], node)
    arrays.settle()
    answer = post(api, head, "pause")
    assert answer.status_code == 202
    assert "paused on request" in answer.json()["waiting_for"][0]
    assert messages.revoked == [f"{one.pk}-1"]
    one.refresh_from_db()
    one.pause()
    assert not Task.objects.in_line(time()).exists()
    assert post(api, head, "pause").status_code == 409
    assert post(api, head, "resume").status_code == 202
    assert Task.objects.in_line(time()).count() == 4
    assert post(api, head, "resume").status_code == 409
    told = head.events.filter(verb="request_pause").get().message
    assert told == "1 elements are asked to pause, and 3 wait."


def test_an_array_that_waits_for_others_is_not_paused_and_not_let_go(
    api: APIClient, array: Callable[..., Task], submit: Submit, alice: User
) -> None:
    wanted = submission.common(alice, {"depends_on": {"afterok": [submit().pk]}})
    head = array(depends_on=wanted["depends_on"])
    for verb in ("pause", "resume"):
        answer = post(api, head, verb)
        assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")
    assert all(task.held for task in elements(head))


def test_a_script_cannot_be_paused_and_the_answer_says_why(
    api: APIClient, submit: Submit, node: Node
) -> None:
    task = run(submit(kind="script"), node)
    answer = post(api, task, "pause")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")
    assert "checkpoint" in answer.json()["detail"]
    assert Task.objects.get(pk=task.pk).pause_requested_at is None


def test_a_cancelled_array_is_retried_whole_and_its_completed_elements_stay(
    api: APIClient, array: Callable[..., Task], node: Node
) -> None:
    head = array()
    done, failed, *_ = elements(head)
    run(done, node).complete({})
    run(failed, node).fail("error", "It broke.")
    assert post(api, head, "cancel").json()["state"] == "cancelled"
    assert states(head) == ["completed", "failed", "cancelled", "cancelled"]
    assert post(api, head, "cancel").status_code == 202
    assert post(api, head, "retry").json()["state"] == "pending"
    assert states(head) == ["completed", "pending", "pending", "pending"]
    failed.refresh_from_db()
    assert (failed.reason, failed.attempts.count()) == ("", 1)
    assert failed.events.last().verb == "retry"
    assert done.events.filter(verb="retry").count() == 0


def test_a_retry_from_the_start_takes_the_curves_of_the_elements(
    api: APIClient, array: Callable[..., Task], node: Node
) -> None:
    head = array("0-1")
    one, other = elements(head)
    for task in (one, other):
        run(task, node)
        task.points.create(
            name="loss", step=1, value=0.5, attempt=1, at=task.created_at
        )
    one.fail("error", "It broke.")
    other.fail("error", "It broke.")
    arrays.settle()
    post(api, head, "retry", {"from": "start"})
    assert one.points.count() == other.points.count() == 0
    one.refresh_from_db()
    assert one.resume_from == "start"


def test_a_deleted_array_takes_its_elements_and_all_their_files(
    api: APIClient, array: Callable[..., Task], django_capture_on_commit_callbacks: Any
) -> None:
    head = array()
    homes = [store.task_path(task.pk) for task in [head, *elements(head)]]
    for home in homes:
        home.mkdir(parents=True)
    assert api.delete(f"{HOME}/{head.pk}").status_code == 409
    element = elements(head)[0]
    element.request_cancel()
    refused = api.delete(f"{HOME}/{element.pk}")
    assert (refused.status_code, "array" in refused.json()["detail"]) == (409, True)
    post(api, head, "cancel")
    with django_capture_on_commit_callbacks(execute=True):
        assert api.delete(f"{HOME}/{head.pk}").status_code == 204
    assert not Task.objects.exists()
    assert not any(home.exists() for home in homes)
