from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from registry import logs
from registry.models import Node, Task
from registry.states import State
from tests.conftest import make_node
from tests.registry.admin_pages import at, enter, form_of
from tests.registry.lives import bring

HUGE = "9" * 25


@pytest.fixture
def site(admin: User) -> Client:
    return enter(admin)


def test_the_list_of_tasks_tells_where_each_stands(
    site: Client, submit: Callable[..., Task], node: Node, time: Any
) -> None:
    running = bring(submit(name="fold 1"), State.RUNNING, node)
    running.beat(progress={"fraction": 0.254})
    waiting = submit(name="fold 2")
    Task.objects.filter(pk=waiting.pk).update(waiting_for=["No cpu worker is up."])
    time.forward(seconds=75)
    text = site.get(at("task_changelist")).content.decode()
    for piece in ("fold 1", "running", "25%", "0:01:15", node.name, "alice"):
        assert piece in text
    assert "No cpu worker is up." in text


def test_the_list_of_tasks_is_filtered_and_searched(
    site: Client, submit: Callable[..., Task], node: Node
) -> None:
    lost = bring(submit(name="apple"), State.FAILED, node)
    placed = bring(submit(name="pear"), State.ASSIGNED, make_node("cpu@two"))
    fresh = submit(name="plum", lane="gpu")

    def found(query: str) -> set[int]:
        changes = site.get(f"{at('task_changelist')}?{query}").context["cl"]
        return {task.pk for task in changes.result_list}

    assert found("state=failed") == {lost.pk}
    assert found("reason=error") == {lost.pk}
    assert found("lane=gpu") == {fresh.pk}
    assert found("kind=predict") == set()
    assert found(f"node={placed.node_id}") == {placed.pk}
    assert found("q=PEA") == {placed.pk}
    assert fresh.pk in found(f"q={fresh.pk}")


def test_the_list_of_tasks_takes_a_fixed_number_of_queries(
    site: Client, submit: Callable[..., Task], node: Node,
    django_assert_max_num_queries: Any,
) -> None:  # fmt: skip
    for _ in range(12):
        submit()
    with django_assert_max_num_queries(8):
        site.get(at("task_changelist"))


def test_the_page_of_a_task_tells_its_story(
    site: Client, submit: Callable[..., Task], node: Node
) -> None:
    task = bring(submit(params={"seed": [1, 2]}), State.FAILED, node)
    logs.path(task).parent.mkdir(parents=True)
    logs.path(task).write_text("<b>epoch 1</b>\n")
    text = site.get(at("task_change", task.pk)).content.decode()
    assert "&quot;seed&quot;: [\n    1,\n    2\n  ]" in text
    assert "&lt;b&gt;epoch 1&lt;/b&gt;" in text
    assert "It broke." in text
    assert task.hint in text
    for verb in ("submit", "assign", "start", "fail"):
        assert f"<td>{verb}</td>" in text


def test_the_page_of_a_task_shows_its_latest_events_alone(
    site: Client, submit: Callable[..., Task]
) -> None:
    task = submit()
    for number in range(250):
        task.note(f"mark{number}")
    text = site.get(at("task_change", task.pk)).content.decode()
    assert text.count("<td>mark") == 200
    assert "<td>mark249</td>" in text


def test_a_user_field_is_changed_and_no_other_column_is_written(
    site: Client, submit: Callable[..., Task], node: Node
) -> None:
    task = submit(name="old", tags=["a"])
    seen = form_of(task, name="new", priority=7, tags=" x \n\ny")
    bring(task, State.RUNNING, node)
    answer = site.post(
        at("task_change", task.pk), {**seen, "state": "completed", "node": ""}
    )
    assert answer.status_code == 302
    after = Task.objects.get(pk=task.pk)
    assert (after.name, after.priority, after.tags) == ("new", 7, ["x", "y"])
    assert (after.state, after.node) == (State.RUNNING, node)


def test_a_save_does_not_undo_what_a_verb_did_meanwhile(
    site: Client, submit: Callable[..., Task], node: Node, monkeypatch: Any
) -> None:
    from registry.admin.task_form import TaskForm

    task, clean = submit(name="old"), TaskForm.clean

    def slow(form: Any) -> Any:
        bring(Task.objects.get(pk=task.pk), State.RUNNING, node)
        return clean(form)

    monkeypatch.setattr(TaskForm, "clean", slow)
    site.post(at("task_change", task.pk), form_of(task, name="new"))
    task.refresh_from_db()
    assert (task.name, task.state) == ("new", State.RUNNING)


@pytest.mark.parametrize(
    "changes",
    [
        {"priority": "1001"},
        {"priority": HUGE},
        {"priority": "many"},
        {"name": "n" * 201},
        {"name": "a\x00b"},
        {"description": "a\x00b"},
        {"tags": "a\x00b"},
        {"tags": "t" * 61},
        {"tags": "\n".join(map(str, range(51)))},
    ],
)
def test_a_bad_value_is_refused_on_the_form(
    site: Client, submit: Callable[..., Task], changes: dict[str, str]
) -> None:
    task = submit(name="old")
    answer = site.post(at("task_change", task.pk), form_of(task, **changes))
    assert answer.status_code == 200
    assert set(answer.context["adminform"].form.errors) == set(changes)
    assert form_of(Task.objects.get(pk=task.pk)) == form_of(task)
