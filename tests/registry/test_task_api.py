"""What users may ask of their tasks by REST."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from registry import arrays, logs, store, stream
from registry.models import Node, Task
from registry.states import State
from tests.conftest import Clock

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]


def run(task: Task, node: Node) -> Task:
    task.assign(node)
    task.start(node)
    return task


def write_log(task: Task, content: bytes) -> None:
    store.task_path(task.pk).mkdir(parents=True)
    logs.path(task).write_bytes(content)


def test_a_waiting_task_is_cancelled_at_once(api: APIClient, submit: Submit) -> None:
    answer = api.post(f"/api/v1/tasks/{submit().pk}/cancel")
    assert answer.status_code == 202
    assert answer.json()["state"] == "cancelled"


def test_a_running_one_is_asked_and_its_worker_told(
    api: APIClient, submit: Submit, node: Node, messages: Any
) -> None:
    task = run(submit(), node)
    answer = api.post(f"/api/v1/tasks/{task.pk}/stop")
    assert answer.json()["state"] == "running"
    assert answer.json()["cancel_requested_at"]
    assert messages.revoked == [f"{task.pk}-1"]


def test_cancel_is_idempotent_and_a_conflict_only_for_completed_and_failed(
    api: APIClient, submit: Submit, node: Node
) -> None:
    task = submit()
    for _ in range(2):
        assert api.post(f"/api/v1/tasks/{task.pk}/cancel").status_code == 202
    failed = run(submit(), node)
    failed.fail("error", "so it is")
    answer = api.post(f"/api/v1/tasks/{failed.pk}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")


@pytest.mark.parametrize("verb", ["pause", "resume", "start", "retry"])
def test_a_verb_in_the_wrong_state_is_a_409(
    api: APIClient, submit: Submit, verb: str
) -> None:
    answer = api.post(f"/api/v1/tasks/{submit().pk}/{verb}")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")


def test_a_failed_task_is_retried_from_its_checkpoint_or_from_the_start(
    api: APIClient, submit: Submit, node: Node
) -> None:
    task = run(submit(), node)
    task.fail("error", "so it is")
    assert api.post(f"/api/v1/tasks/{task.pk}/retry").status_code == 202
    task.refresh_from_db()
    assert (task.state, task.resume_from) == (State.PENDING, "checkpoint")
    task.request_cancel()
    api.post(f"/api/v1/tasks/{task.pk}/retry", {"from": "start"}, format="json")
    task.refresh_from_db()
    assert task.resume_from == "start"
    bad = api.post(f"/api/v1/tasks/{task.pk}/retry", {"from": "x"}, format="json")
    assert bad.status_code == 422


def test_the_curve_goes_only_with_a_retry_that_begins_anew(
    api: APIClient, submit: Submit, node: Node
) -> None:
    task = run(submit(), node)
    task.points.create(name="loss", step=1, value=0.5, attempt=1, at=task.created_at)
    task.complete({})
    home = f"/api/v1/tasks/{task.pk}/retry"
    assert api.post(home, {"from": "start"}, format="json").status_code == 409
    assert task.points.count() == 1, "a refused retry takes nothing"
    failed = run(submit(), node)
    failed.points.create(name="loss", step=1, value=0.5, attempt=1, at=task.created_at)
    failed.fail("error", "so it is")
    home = f"/api/v1/tasks/{failed.pk}/retry"
    assert api.post(home, {"from": "start"}, format="json").status_code == 202
    assert failed.points.count() == 0


def test_a_live_task_is_not_deleted_and_a_final_one_goes_with_its_files(
    api: APIClient, submit: Submit, django_capture_on_commit_callbacks: Any
) -> None:
    task = submit()
    write_log(task, b"x")
    assert api.delete(f"/api/v1/tasks/{task.pk}").status_code == 409
    task.request_cancel()
    with django_capture_on_commit_callbacks(execute=True):
        assert api.delete(f"/api/v1/tasks/{task.pk}").status_code == 204
    assert not store.task_path(task.pk).exists()
    assert api.get(f"/api/v1/tasks/{task.pk}").status_code == 404


def test_limits_may_change_while_it_does_not_run(
    api: APIClient, submit: Submit, node: Node
) -> None:
    task = submit(time_limit=60, soft_time_limit=50)
    address = f"/api/v1/tasks/{task.pk}"

    def change(**limits: Any) -> Any:
        return api.patch(address, limits, format="json")

    wrong = change(time_limit=50)
    assert (wrong.status_code, list(wrong.json()["errors"])) == (
        422,
        ["soft_time_limit"],
    )
    assert change(time_limit=0).status_code == 422
    answer = change(time_limit=None, hang_after=30)
    assert answer.status_code == 200
    assert (answer.json()["time_limit"], answer.json()["hang_after"]) == (None, 30)
    (event,) = task.events.filter(verb="change")
    assert event.message == "Time_limit 60 s -> none, hang_after none -> 30 s."
    run(task, node)
    assert change(time_limit=99).status_code == 409
    assert change(name="still mine").status_code == 200
    task.fail("time_limit", "It ran too long.")
    assert change(time_limit=99).status_code == 200


def test_the_limits_of_an_array_are_those_of_its_elements(
    api: APIClient, alice: Any
) -> None:
    head = arrays.submit(
        arrays.parse("0-2"), kind="script", lane="cpu", owner=alice, time_limit=60
    )
    answer = api.patch(f"/api/v1/tasks/{head.pk}", {"time_limit": 90}, format="json")
    assert answer.status_code == 200
    assert set(head.elements.values_list("time_limit", flat=True)) == {90}


def test_name_tags_and_priority_may_change_and_nothing_else(
    api: APIClient, submit: Submit
) -> None:
    task = submit()
    change = {"name": "n", "tags": ["a"], "priority": 3}
    answer = api.patch(f"/api/v1/tasks/{task.pk}", change, format="json")
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in change} == change
    (event,) = task.events.filter(verb="change")
    assert event.message == "Another name, priority 0 -> 3, other tags."
    api.patch(f"/api/v1/tasks/{task.pk}", change, format="json")
    assert task.events.filter(verb="change").count() == 1, "nothing changed"
    bad = api.patch(f"/api/v1/tasks/{task.pk}", {"state": "completed"}, format="json")
    assert bad.status_code == 422
    assert "state" in bad.json()["errors"]


def test_the_log_is_read_by_bytes_and_characters_stay_whole(
    api: APIClient, submit: Submit
) -> None:
    task = submit()
    write_log(task, "aäb".encode())
    home = f"/api/v1/tasks/{task.pk}/logs"
    piece = api.get(f"{home}?limit=2").json()
    assert (piece["text"], piece["next_offset"], piece["size"]) == ("a", 1, 4)
    rest = api.get(f"{home}?offset=1").json()
    assert (rest["text"], rest["complete"]) == ("äb", False)
    assert api.get(f"{home}?tail=1").json()["text"] == "b"
    assert api.get(f"{home}?offset=-1").status_code == 422
    task.request_cancel()
    assert api.get(f"{home}?offset=4").json()["complete"] is True


def test_results_are_served_by_name_and_nothing_else_is(
    api: APIClient, submit: Submit
) -> None:
    task = submit()
    files = store.task_path(task.pk) / "files"
    files.mkdir(parents=True)
    (files / "results.jsonl").write_text("{}\n")
    (files / "link").symlink_to("/etc/passwd")
    home = f"/api/v1/tasks/{task.pk}/files"
    assert api.get(home).json()["results"] == [{"name": "results.jsonl", "size": 3}]
    got = api.get(f"{home}/results.jsonl")
    assert b"".join(got.streaming_content) == b"{}\n"
    for name in ("link", "..%2Flog.txt", "none", "..", ".hidden"):
        assert api.get(f"{home}/{name}").status_code == 404


def test_filters_and_pages_go_newest_first(api: APIClient, submit: Submit) -> None:
    tasks = [submit(name=f"n{i}") for i in range(3)]
    tasks[0].request_cancel()
    page = api.get("/api/v1/tasks?limit=2").json()
    assert [row["name"] for row in page["results"]] == ["n2", "n1"]
    rest = api.get(page["next"]).json()
    assert [row["name"] for row in rest["results"]] == ["n0"]
    found = api.get("/api/v1/tasks?state=cancelled").json()["results"]
    assert [row["name"] for row in found] == ["n0"]
    assert api.get("/api/v1/tasks?state=odd").status_code == 422
    assert api.get("/api/v1/tasks?cursor=odd").status_code == 404


def test_created_after_is_exact_though_ids_came_in_another_order(
    api: APIClient, submit: Submit, time: Clock
) -> None:
    tasks = [submit(name=f"n{i}") for i in range(4)]
    for task, minute in zip(tasks, (3, 1, 2, 4), strict=True):
        at = time() + datetime.timedelta(minutes=minute)
        Task.objects.filter(pk=task.pk).update(created_at=at)

    def after(minutes: float) -> list[str]:
        at = time() + datetime.timedelta(minutes=minutes)
        found = api.get(f"/api/v1/tasks?created_after={at:%Y-%m-%dT%H:%M:%SZ}").json()
        return [row["name"] for row in found["results"]]

    assert after(0) == ["n3", "n2", "n1", "n0"]
    assert after(1) == ["n3", "n2", "n0"]
    assert after(2) == ["n3", "n0"]
    assert after(4) == []


def test_the_stream_tells_state_metric_log_and_end_and_can_go_on(
    submit: Submit, node: Node
) -> None:
    task = run(submit(), node)
    write_log(task, b"hello\n")
    task.points.create(name="loss", step=1, value=0.5, attempt=1, at=task.created_at)
    task.beat(progress={"fraction": 0.5})
    task.fail("error", "so it is")
    frames = list(stream.follow(task, stream.Position("")))
    kinds = [
        line for frame in frames for line in frame.splitlines() if "event:" in line
    ]
    assert kinds == [
        *["event: state"] * 4, "event: metric", "event: log", "event: progress", "event: done",
    ]  # fmt: skip
    last = frames[-1].splitlines()[0].removeprefix("id: ")
    again = list(stream.follow(task, stream.Position(last)))
    assert not [
        frame for frame in again if "event: log" in frame or "event: state" in frame
    ]


def test_the_stream_tells_each_change_of_why_it_waits_and_until_when(
    submit: Submit, node: Node, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.connection, "close", lambda: None)
    task = submit()
    steps: list[dict[str, Any]] = [
        {"waiting_for": ["Needs 8 CPUs."], "estimated_start": time()},
        {},
        {"waiting_for": ["Needs 2 CPUs."]},
    ]

    def sleep(seconds: float) -> None:
        if steps:
            Task.objects.filter(pk=task.pk).update(**steps.pop(0), name="seen")
        else:
            Task.objects.get(pk=task.pk).assign(node)
            run_to_its_end()

    def run_to_its_end() -> None:
        one = Task.objects.get(pk=task.pk)
        one.start(node)
        one.complete({})

    frames = list(stream.follow(task, stream.Position(""), sleep=sleep))
    told = [json.loads(f.split("data: ")[1]) for f in frames if "event: waiting" in f]
    assert [one["waiting_for"] for one in told[1:]] == [
        ["Needs 8 CPUs."], ["Needs 2 CPUs."], [],
    ]  # fmt: skip
    assert told[1]["estimated_start"]
    assert "accepted" in told[0]["waiting_for"][0]


def test_the_stream_ends_after_its_time_and_speaks_in_between(
    submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.connection, "close", lambda: None)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += 20

    frames = list(
        stream.follow(
            submit(), stream.Position(""), sleep=sleep, monotonic=lambda: now[0]
        )
    )
    assert ": still here\n\n" in frames
    assert not any("event: done" in frame for frame in frames)


def test_too_many_streams_are_refused_and_a_closed_one_frees_its_slot(
    api: APIClient, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    monkeypatch.setattr(stream, "_slots", threading.BoundedSemaphore(1))
    monkeypatch.setattr(stream.connection, "close", lambda: None)
    task, accept = submit(), {"Accept": "text/event-stream"}
    first = api.get(f"/api/v1/tasks/{task.pk}/events", headers=accept)
    assert first["Content-Type"] == "text/event-stream"
    second = api.get(f"/api/v1/tasks/{task.pk}/events", headers=accept)
    assert (second.status_code, second.has_header("Retry-After")) == (429, True)
    first.close()
    third = api.get(f"/api/v1/tasks/{task.pk}/events", headers=accept)
    assert third.status_code == 200
    third.close()


def test_nodes_show_what_is_used_of_them(
    api: APIClient, submit: Submit, node: Node
) -> None:
    task = run(submit(cpus=3, memory=7), node)
    shown = api.get("/api/v1/nodes").json()["results"][0]
    assert shown["used"] == {"cpus": 3, "gpus": 0, "memory": 7}
    assert (shown["state"], shown["running"]) == ("up", [str(task.pk)])
    assert api.post(f"/api/v1/nodes/{node.name}/drain").status_code == 403
