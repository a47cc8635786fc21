from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from registry import store
from registry.models import Node, Task
from registry.states import State
from tests.conftest import Messages
from tests.registry.admin_pages import act, at, enter, told
from tests.registry.lives import bring


@pytest.fixture
def site(admin: User) -> Client:
    return enter(admin)


def one_of_each(submit: Callable[..., Task], node: Node) -> dict[State, Task]:
    return {state: bring(submit(), state, node) for state in State}


@pytest.mark.parametrize(
    ("action", "met", "said", "refused"),
    [
        ("cancel", {"pending", "assigned", "running", "paused", "cancelled"},
         "Asked to cancel 5 tasks.", "cancelled"),
        ("retry", {"failed", "cancelled"}, "Retried 2 tasks.", "retried"),
        ("pause", {"running"}, "Asked to pause 1 task.", "paused"),
        ("resume", {"paused"}, "Resumed 1 task.", "resumed"),
    ],
)  # fmt: skip
def test_an_action_meets_what_it_may_and_says_why_not_else(
    site: Client, submit: Callable[..., Task], node: Node,
    action: str, met: set[str], said: str, refused: str,
) -> None:  # fmt: skip
    tasks = one_of_each(submit, node)
    answer = act(site, "task", action, list(tasks.values()))
    against = {
        f"Task {task.pk} is {state} and cannot be {refused}."
        for state, task in tasks.items()
        if state not in met
    }
    assert set(told(answer)) == {said} | against


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("cancel", State.PENDING, State.CANCELLED),
        ("cancel", State.PAUSED, State.CANCELLED),
        ("cancel", State.RUNNING, State.RUNNING),
        ("retry", State.FAILED, State.ASSIGNED),
        ("pause", State.RUNNING, State.RUNNING),
        ("resume", State.PAUSED, State.ASSIGNED),
    ],
)
def test_an_action_goes_through_the_verb_and_dispatch(
    site: Client, submit: Callable[..., Task], node: Node, messages: Messages,
    django_capture_on_commit_callbacks: Any,
    action: str, before: State, after: State,
) -> None:  # fmt: skip
    task = bring(submit(), before, node)
    attempt = task.attempt
    with django_capture_on_commit_callbacks(execute=True):
        act(site, "task", action, [task])
    task.refresh_from_db()
    assert task.state == after
    verb = {"cancel": "request_cancel", "pause": "request_pause"}.get(action, action)
    assert task.events.filter(verb=verb).count() == 1
    if after == State.ASSIGNED:
        assert messages.sent == [f"{task.pk}-{attempt + 1}"]
    else:
        assert messages.revoked == [f"{task.pk}-{attempt}"]
    if before == State.RUNNING:
        assert task.cancel_requested_at or task.pause_requested_at


def test_many_refusals_are_counted_and_not_all_told(
    site: Client, submit: Callable[..., Task]
) -> None:
    tasks = [submit() for _ in range(30)]
    said = told(act(site, "task", "retry", tasks))
    assert len(said) == 21
    assert said[-1] == "10 more could not be retried."


def test_an_action_is_in_the_history_of_the_task(
    site: Client, submit: Callable[..., Task]
) -> None:
    task = submit()
    act(site, "task", "cancel", [task])
    text = site.get(at("task_history", task.pk)).content.decode()
    assert "Asked to cancel." in text


def test_a_final_task_is_deleted_with_its_files(
    site: Client, submit: Callable[..., Task], node: Node,
    django_capture_on_commit_callbacks: Any,
) -> None:  # fmt: skip
    task = bring(submit(), State.COMPLETED, node)
    home = store.task_path(task.pk)
    home.mkdir(parents=True)
    with django_capture_on_commit_callbacks(execute=True):
        site.post(at("task_delete", task.pk), {"post": "yes"})
    assert not Task.objects.filter(pk=task.pk).exists()
    assert not home.exists()


def test_a_live_task_is_not_deleted(
    site: Client, submit: Callable[..., Task], node: Node
) -> None:
    live = bring(submit(), State.RUNNING, node)
    done = bring(submit(), State.COMPLETED, node)
    alone = site.post(at("task_delete", live.pk), {"post": "yes"})
    act(site, "task", "delete_selected", [live, done], post="yes")
    assert "cancel it first" in alone.content.decode()
    assert Task.objects.filter(pk__in=[live.pk, done.pk]).count() == 2


def test_final_tasks_are_deleted_together(
    site: Client, submit: Callable[..., Task], node: Node
) -> None:
    tasks = [bring(submit(), state, node) for state in (State.FAILED, State.CANCELLED)]
    act(site, "task", "delete_selected", tasks, post="yes")
    assert not Task.objects.exists()
