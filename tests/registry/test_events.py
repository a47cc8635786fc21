from __future__ import annotations

from collections.abc import Callable

import pytest

from registry.models import Node, Task, TaskEvent
from registry.states import State
from tests.conftest import Clock
from tests.registry.lives import again, bring

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]


def test_a_timeline_tells_the_whole_life(
    node: Node, submit: Submit, time: Clock
) -> None:
    task = submit(max_retries=1)
    time.forward(seconds=1)
    task.assign(node)
    task.start(node)
    time.forward(seconds=1)
    task.fail("connection", "The store was away.")
    time.forward(seconds=9)
    bring(task, State.RUNNING, node)
    again(task).request_pause()
    task.pause()
    again(task).resume()
    task = bring(again(task), State.RUNNING, node)
    again(task).request_cancel()
    task.cancel()
    lines = [
        (event.verb, event.state, event.attempt, event.reason)
        for event in task.events.all()
    ]
    assert lines == [
        ("submit", "pending", 0, ""),
        ("assign", "assigned", 1, ""),
        ("start", "running", 1, ""),
        ("release", "pending", 1, "connection"),
        ("assign", "assigned", 2, ""),
        ("start", "running", 2, ""),
        ("request_pause", "running", 2, ""),
        ("pause", "paused", 2, ""),
        ("resume", "pending", 2, ""),
        ("assign", "assigned", 3, ""),
        ("start", "running", 3, ""),
        ("request_cancel", "running", 3, ""),
        ("cancel", "cancelled", 3, "cancelled_by_user"),
    ]
    assert task.events.get(verb="release").message == "The store was away."
    assert task.events.filter(verb="assign")[0].message == f"On {node.name}."
    times = [event.at for event in task.events.all()]
    assert times == sorted(times)
    assert (times[0], times[1]) == (task.created_at, task.attempts.all()[0].assigned_at)


def test_the_end_of_the_row_and_of_its_timeline_are_one_moment(
    node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(), State.RUNNING, node)
    time.forward(seconds=3)
    task.fail("error", "It broke.")
    event = task.events.last()
    assert event.at == task.finished_at == task.attempts.get().finished_at == time()
    assert (event.reason, event.message) == ("error", "It broke.")


def test_a_note_adds_a_line_and_changes_no_state(node: Node, submit: Submit) -> None:
    task = bring(submit(), State.RUNNING, node)
    before = Task.objects.filter(pk=task.pk).values().get()
    task.note("ask_stop", "SIGTERM to the group.", reason="time_limit")
    event = task.events.last()
    assert (event.verb, event.state, event.attempt) == ("ask_stop", "running", 1)
    assert (event.message, event.reason) == ("SIGTERM to the group.", "time_limit")
    assert Task.objects.filter(pk=task.pk).values().get() == before


def test_a_deleted_task_takes_its_timeline_along(node: Node, submit: Submit) -> None:
    kept, task = submit(), bring(submit(), State.COMPLETED, node)
    task.delete()
    assert [event.task for event in TaskEvent.objects.all()] == [kept]
