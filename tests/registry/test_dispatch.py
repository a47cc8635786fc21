"""The placement as it changes rows and sends messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from registry import fronts, scheduler
from registry.models import Node, Task
from registry.placement import Place
from registry.resources import GIB
from registry.scheduler import RESEND_AFTER, dispatch
from registry.states import State
from tests.conftest import Clock, Messages, make_node
from tests.registry.lives import again, bring, snapshot

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]


def test_it_assigns_and_sends(
    node: Node, submit: Submit, messages: Messages, time: Clock
) -> None:
    task = submit()
    plan = dispatch()
    task.refresh_from_db()
    assert plan.places == {task.pk: Place(node.name)}
    assert (task.state, task.node, task.attempt) == (State.ASSIGNED, node, 1)
    assert (task.assigned_at, task.sent_at) == (time(), time())
    assert messages.sent == [f"{task.pk}-1"]
    attempt = task.attempts.get()
    assert (attempt.number, attempt.incarnation) == (1, node.incarnation)


def test_a_second_pass_assigns_nothing_anew(
    node: Node, submit: Submit, messages: Messages, time: Clock
) -> None:
    task = submit()
    dispatch()
    before = snapshot(task)
    assert dispatch().places == {}
    assert snapshot(task) == before
    assert len(messages.sent) == 1


def test_priority_goes_before_order_of_arrival(submit: Submit, time: Clock) -> None:
    make_node(cpus=3)
    tasks = [submit(priority=priority) for priority in (0, 5, 0, 5, -1)]
    dispatch()
    states = [again(task).state == State.ASSIGNED for task in tasks]
    assert states == [True, True, False, True, False]


def test_who_waits_is_told_why_until_it_is_placed(
    submit: Submit, node: Node, time: Clock
) -> None:
    large, other = submit(memory=20 * GIB), submit(lane="gpu")
    dispatch()
    assert again(large).waiting_for == [
        "Needs 20.0 GiB of memory; the largest cpu worker for it, cpu@one, has 8.0 GiB."
    ]
    assert again(other).waiting_for == ["No gpu worker is up."]
    make_node("cpu@two", memory=32 * GIB)
    dispatch()
    assert again(large).state == State.ASSIGNED
    assert again(large).waiting_for == []


def test_what_is_placed_is_taken_from_the_node(submit: Submit, time: Clock) -> None:
    node = make_node(cpus=4, gpus=[{"index": 0}], memory=8 * GIB)
    one, two = submit(cpus=2, memory=5 * GIB), submit(cpus=1, memory=5 * GIB)
    dispatch()
    assert (again(one).state, again(two).state) == (State.ASSIGNED, State.PENDING)
    bring(again(two), State.PENDING, node)
    task = again(one)
    task.start(node)
    dispatch()
    assert again(two).state == State.PENDING
    task.complete({})
    dispatch()
    assert again(two).state == State.ASSIGNED


@pytest.mark.parametrize("end", ["pause", "cancel", "fail", "release"])
def test_every_end_gives_the_resources_back(
    end: str, node: Node, submit: Submit, time: Clock
) -> None:
    task, waiting = submit(cpus=4, priority=1), submit(cpus=4)
    bring(task, State.RUNNING, node)
    dispatch()
    assert again(waiting).state == State.PENDING
    if end in ("fail", "release"):
        getattr(task, end)("error" if end == "fail" else "node_lost", "Gone.")
    else:
        getattr(task, end)()
    Task.objects.filter(pk=task.pk, state=State.PENDING).update(priority=-1)
    dispatch()
    assert again(waiting).state == State.ASSIGNED


def test_back_off_is_waited_for(node: Node, submit: Submit, time: Clock) -> None:
    task = bring(submit(), State.RUNNING, node)
    task.fail("connection", "Away.")
    dispatch()
    assert again(task).state == State.PENDING
    time.forward(seconds=2.5)
    dispatch()
    assert again(task).state == State.ASSIGNED


def test_a_silent_node_gets_nothing(
    node: Node, submit: Submit, messages: Messages, time: Clock
) -> None:
    task = submit()
    time.forward(seconds=15)
    dispatch()
    assert again(task).state == State.PENDING
    assert again(task).waiting_for == [
        "No cpu worker is up.",
        "cpu@one could hold it, but it was last seen at 2026-01-05 09:00 UTC.",
    ]
    assert node.beat()
    dispatch()
    assert again(task).state == State.ASSIGNED


def test_a_draining_node_gets_nothing(submit: Submit, time: Clock) -> None:
    node = make_node()
    Node.objects.update(draining=True)
    task = submit()
    dispatch()
    assert again(task).state == State.PENDING
    Node.objects.filter(pk=node.pk).update(draining=False)
    dispatch()
    assert again(task).state == State.ASSIGNED


def test_a_stopped_node_gets_nothing(node: Node, submit: Submit, time: Clock) -> None:
    node.stop()
    task = submit()
    dispatch()
    assert again(task).state == State.PENDING


# Sending again


def test_what_nobody_took_is_sent_again_after_five_seconds(
    node: Node, submit: Submit, messages: Messages, time: Clock
) -> None:
    task = submit()
    dispatch()
    time.forward(seconds=4.9)
    node.beat()
    dispatch()
    assert len(messages.sent) == 1
    time.forward(seconds=0.1)
    before = snapshot(task)
    dispatch()
    assert messages.sent == [f"{task.pk}-1"] * 2
    after = snapshot(task)
    assert after["row"].pop("sent_at") - before["row"].pop("sent_at") == RESEND_AFTER
    assert after == before
    dispatch()
    assert len(messages.sent) == 2


def test_what_was_taken_is_not_sent_again(
    node: Node, submit: Submit, messages: Messages, time: Clock
) -> None:
    task = submit()
    dispatch()
    again(task).start(node)
    time.forward(seconds=9)
    dispatch()
    assert len(messages.sent) == 1


def test_nothing_is_sent_again_to_a_silent_node(
    node: Node, submit: Submit, messages: Messages, time: Clock
) -> None:
    submit()
    dispatch()
    time.forward(seconds=20)
    dispatch()
    assert len(messages.sent) == 1


def test_a_draining_node_still_takes_what_it_was_given(
    node: Node, submit: Submit, messages: Messages, time: Clock
) -> None:
    submit()
    dispatch()
    Node.objects.update(draining=True)
    time.forward(seconds=6)
    dispatch()
    assert len(messages.sent) == 2


# What comes between


def test_a_task_cancelled_between_look_and_placing_stays_cancelled(
    node: Node,
    submit: Submit,
    messages: Messages,
    time: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone, stays = submit(), submit()

    def cancel_and_plan(*args: Any, **more: Any) -> scheduler.Plan:
        again(gone).request_cancel()
        return place(*args, **more)

    place = scheduler.place
    monkeypatch.setattr(scheduler, "place", cancel_and_plan)
    dispatch()
    assert again(gone).state == State.CANCELLED
    assert not gone.attempts.exists()
    assert again(stays).state == State.ASSIGNED
    assert messages.sent == [f"{stays.pk}-1"]


def test_a_line_of_one_lane_does_not_hide_the_others(
    node: Node, submit: Submit, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fronts, "LOOK_AT", 3)
    for _ in range(5):
        submit(lane="gpu")
    task = submit()
    dispatch()
    assert again(task).state == State.ASSIGNED


def test_a_pass_that_breaks_off_leaves_and_sends_nothing(
    node: Node,
    submit: Submit,
    messages: Messages,
    time: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = submit()
    before = snapshot(task)

    def break_off(*args: Any) -> None:
        raise RuntimeError("broken off")

    monkeypatch.setattr(scheduler, "_untaken", break_off)
    with pytest.raises(RuntimeError, match="broken off"), transaction.atomic():
        dispatch()
    assert snapshot(task) == before
    assert messages.sent == []


def test_a_node_whose_host_is_short_of_something_gets_nothing_new_and_says_so(
    node: Node, submit: Submit
) -> None:
    task = submit()
    node.beat(status={"short": "has 0.10 GiB of disk left"})
    dispatch()
    task.refresh_from_db()
    assert task.state == State.PENDING
    assert "cpu@one could hold it, but it has 0.10 GiB of disk left." in " ".join(
        task.waiting_for
    )
    node.beat(status={"short": ""})
    dispatch()
    task.refresh_from_db()
    assert task.state == State.ASSIGNED


def test_a_gpu_that_somebody_uses_is_not_given_out_and_the_reason_names_the_process(
    submit: Submit,
) -> None:
    text = "GPU 0 is used by process 4711 (alice, python3, 3.2 GiB) outside Compass."
    gpus = [
        {"index": index, "name": "T", "memory": GIB, "busy": ""} for index in (0, 1)
    ]
    make_node("gpu@one", gpus=[{**gpus[0], "busy": text}, gpus[1]])
    first, second = submit(lane="gpu", gpus=1), submit(lane="gpu", gpus=1)
    dispatch()
    for task in (first, second):
        task.refresh_from_db()
    assert first.attempts.get().gpus == [1]
    assert second.state == State.PENDING
    assert "process 4711 (alice, python3, 3.2 GiB)" in " ".join(second.waiting_for)


def test_the_timeline_tells_once_why_a_task_begins_to_wait(
    submit: Submit, node: Node, time: Clock
) -> None:
    task = submit(memory=20 * GIB)
    dispatch()
    dispatch()
    told = list(task.events.filter(verb="wait").values_list("message", "state"))
    assert told == [(" ".join(again(task).waiting_for), State.PENDING)]
