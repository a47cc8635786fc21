"""What a submission of any kind may ask for, and who may ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from registry import submission
from registry.errors import Problem
from registry.models import Task
from registry.serializers.submission import SubmitRequest
from registry.states import State

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]


def checked(**fields: Any) -> dict[str, Any]:
    asked = SubmitRequest(data=fields)
    asked.is_valid(raise_exception=True)
    return asked.validated_data


def accept(user: User, **fields: Any) -> Task:
    common = submission.common(user, checked(**fields))
    return submission.accept(**common, kind="train", lane="cpu")


def test_what_was_asked_stands_in_the_row(alice: User) -> None:
    asked = {
        "name": "n", "description": "d", "tags": ["t"], "priority": 7,
        "max_retries": 2, "time_limit": 60, "soft_time_limit": 50, "hang_after": 30,
    }  # fmt: skip
    task = Task.objects.get(pk=accept(alice, **asked).pk)
    assert {name: getattr(task, name) for name in asked} == asked
    assert (task.owner, task.held) == (alice, False)


def test_what_was_not_asked_is_the_kinds_own(alice: User) -> None:
    task = accept(alice)
    assert (task.max_retries, task.time_limit, task.soft_time_limit) == (3, None, None)
    assert (task.priority, task.hang_after) == (0, None)


@pytest.mark.parametrize(
    "field", ["time_limit", "soft_time_limit", "hang_after", "max_retries"]
)
@pytest.mark.parametrize(
    "value", [-1, 10**9, 10**30, True, "5", 1.5, [5], {}, None], ids=str
)
def test_a_limit_that_is_no_sane_number_is_refused_by_name(
    field: str, value: Any
) -> None:
    asked = SubmitRequest(data={field: value})
    assert not asked.is_valid()
    assert list(asked.errors) == [field]


@pytest.mark.parametrize("field", ["time_limit", "soft_time_limit", "hang_after"])
def test_no_time_at_all_is_refused(field: str) -> None:
    assert not SubmitRequest(data={field: 0}).is_valid()


@pytest.mark.parametrize("soft", [60, 61])
def test_the_warning_comes_before_the_end(soft: int) -> None:
    asked = SubmitRequest(data={"time_limit": 60, "soft_time_limit": soft})
    assert not asked.is_valid()
    assert asked.errors["soft_time_limit"] == [
        "must be less than time_limit, which is 60"
    ]


@pytest.mark.parametrize("form", ["list", "object"])
@pytest.mark.parametrize("id_of", [str, int], ids=["text", "number"])
def test_a_plain_list_of_ids_means_afterok(
    alice: User, submit: Submit, form: str, id_of: Any
) -> None:
    ids = [id_of(submit().pk)]
    task = accept(alice, depends_on=ids if form == "list" else {"afterok": ids})
    assert task.held
    (one,) = task.dependencies.all()
    assert (one.condition, one.on_number) == ("afterok", int(ids[0]))
    assert task.waiting_for


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("1", "depends_on"),
        (1, "depends_on"),
        (True, "depends_on"),
        ({"afterok": "1"}, "depends_on.afterok"),
        ({"afterok": None}, "depends_on.afterok"),
        ({"afterok": ["x"]}, "depends_on.afterok"),
        ({"afterok": ["-1"]}, "depends_on.afterok"),
        ({"afterok": [{"id": 1}]}, "depends_on.afterok"),
        ({"afterok": [True]}, "depends_on.afterok"),
        ({"after": ["1"]}, "depends_on.after"),
        (["9" * 400], "depends_on.afterok"),
        ([str(n) for n in range(1001)], "depends_on"),
    ],
    ids=repr,
)
def test_what_is_no_list_of_tasks_is_refused(
    alice: User, value: Any, field: str
) -> None:
    from compass.api import as_problem

    with pytest.raises(Exception) as caught:  # noqa: PT011
        accept(alice, depends_on=value)
    problem = as_problem(caught.value)
    assert problem is not None
    assert (problem.code, list(problem.errors)) == ("invalid", [field])
    assert not Task.objects.exists()


def test_a_task_that_is_not_there_or_not_yours_is_named(
    alice: User, bob: User, submit: Submit
) -> None:
    theirs = submit(owner=bob)
    for number in (theirs.pk, 10**9):
        with pytest.raises(Problem) as caught:
            accept(alice, depends_on=[str(number)])
        assert caught.value.code == "unknown_task"
        assert caught.value.errors["depends_on.afterok"] == [
            f"There is no task {number}."
        ]


def test_a_task_whose_wish_can_never_come_fails_at_once_and_says_why(
    alice: User, submit: Submit
) -> None:
    gone = submit()
    gone.request_cancel()
    task = accept(alice, depends_on=[str(gone.pk)])
    assert (task.state, task.reason) == (State.FAILED, "dependency_failed")
    assert str(gone.pk) in task.message


def test_only_staff_go_above_a_priority_of_100(alice: User, admin: User) -> None:
    assert accept(alice, priority=100).priority == 100
    assert accept(alice, priority=-1000).priority == -1000
    with pytest.raises(Problem, match="at most 100"):
        accept(alice, priority=101)
    assert accept(admin, priority=1000).priority == 1000
    assert not SubmitRequest(data={"priority": 1001}).is_valid()
