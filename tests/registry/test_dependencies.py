"""Tasks that wait for the ends of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from registry import dependencies
from registry.errors import Problem
from registry.models import Dependency, Node, Task
from registry.scheduler import dispatch
from registry.states import FINAL, State
from registry.submission import accept
from tests.conftest import Clock
from tests.registry.lives import again, bring

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]
ENDS = (State.COMPLETED, State.FAILED, State.CANCELLED)
MET = {
    "afterok": {State.COMPLETED},
    "afterany": set(ENDS),
    "afternotok": {State.FAILED, State.CANCELLED},
}


@pytest.fixture
def after(alice: User) -> Callable[..., Task]:
    """Submits a task that depends on others: after(afterok=[task])."""

    def after(**asked: list[Task]) -> Task:
        ids = {name: [str(one.pk) for one in tasks] for name, tasks in asked.items()}
        wanted = dependencies.check(alice, ids)
        return accept(kind="train", lane="cpu", owner=alice, depends_on=wanted)

    return after


@pytest.mark.parametrize("end", ENDS, ids=str)
@pytest.mark.parametrize("condition", MET)
def test_each_condition_is_met_by_its_ends_and_broken_by_the_others(
    condition: str, end: State, node: Node, submit: Submit, after: Any, time: Clock
) -> None:
    first = submit(cpus=4)
    second = after(**{condition: [first]})
    dispatch()
    assert (again(second).state, again(second).held) == (State.PENDING, True)
    assert again(second).waiting_for[0].startswith(f"Waits for task {first.pk} to ")
    first = again(first)
    first.start(node)
    {
        State.COMPLETED: lambda: first.complete({}),
        State.FAILED: lambda: first.fail("error", "It broke."),
        State.CANCELLED: lambda: first.cancel(),
    }[end]()
    dispatch()
    second = again(second)
    if end in MET[condition]:
        assert second.state == State.ASSIGNED
    else:
        assert (second.state, second.reason) == (State.FAILED, "dependency_failed")
        assert f"Task {first.pk} is {end.value}" in second.message


def test_failure_runs_down_a_chain_in_one_pass(
    node: Node, submit: Submit, after: Any, time: Clock
) -> None:
    chain = [submit()]
    for _ in range(20):
        chain.append(after(afterok=[chain[-1]]))
    clean_up = after(afterany=[chain[-1]])
    bring(chain[0], State.FAILED, node)
    dispatch()
    assert {again(one).state for one in chain} == {State.FAILED}
    assert {again(one).reason for one in chain[1:]} == {"dependency_failed"}
    assert again(clean_up).state == State.ASSIGNED


def test_a_diamond_begins_its_last_once_both_sides_are_through(
    node: Node, submit: Submit, after: Any, time: Clock
) -> None:
    top = submit()
    left, right = after(afterok=[top]), after(afterok=[top])
    bottom = after(afterok=[left, right])
    for one in (top, left, right):
        dispatch()
        assert again(bottom).state == State.PENDING
        task = again(one)
        task.start(node)
        task.complete({})
    dispatch()
    assert again(bottom).state == State.ASSIGNED


def test_what_has_ended_already_decides_at_submit(
    node: Node, submit: Submit, after: Any, time: Clock
) -> None:
    done, broken = submit(), submit()
    bring(done, State.COMPLETED, node)
    bring(broken, State.FAILED, node)
    assert not after(afterok=[done]).held
    assert after(afterok=[broken]).state == State.FAILED


def test_a_retry_looks_at_its_dependencies_anew(
    node: Node, submit: Submit, after: Any, time: Clock
) -> None:
    first = submit()
    second = after(afterok=[first])
    bring(first, State.FAILED, node)
    dispatch()
    assert again(second).state == State.FAILED
    first = again(first)
    first.retry()
    second = again(second)
    second.retry()
    assert second.held
    dispatch()
    assert (again(first).state, again(second).state) == (
        State.ASSIGNED,
        State.PENDING,
    )


def test_a_task_that_is_deleted_has_decided_before(
    node: Node, submit: Submit, after: Any, time: Clock
) -> None:
    first = submit()
    second, third = after(afterok=[first]), after(afterany=[first])
    bring(first, State.COMPLETED, node)
    dependencies.resolve()
    Task.objects.filter(pk=first.pk).delete()
    dispatch()
    assert (again(second).state, again(third).state) == (
        State.ASSIGNED,
        State.ASSIGNED,
    )
    assert set(Dependency.objects.values_list("on", "on_number")) == {(None, first.pk)}


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        ({"afterok": ["99"]}, "unknown_task", "depends_on.afterok"),
        ({"afterok": ["x"]}, "invalid", "depends_on.afterok"),
        ({"afterok": ["-1"]}, "invalid", "depends_on.afterok"),
        ({"afterok": [True]}, "invalid", "depends_on.afterok"),
        ({"afterok": ["9" * 30]}, "invalid", "depends_on.afterok"),
        ({"singleton": ["1"]}, "invalid", "depends_on.singleton"),
        ({"afterok": list(range(2000))}, "invalid", "depends_on"),
    ],
)
def test_what_cannot_be_waited_for_is_refused_by_field(
    asked: Any, code: str, field: str, alice: User
) -> None:
    with pytest.raises(Problem) as refused:
        dependencies.check(alice, asked)
    assert refused.value.code == code
    assert field in refused.value.errors


def test_nobody_learns_of_the_tasks_of_others(
    submit: Submit, bob: User, alice: User
) -> None:
    task = submit()
    with pytest.raises(Problem, match="not yours"):
        dependencies.check(bob, {"afterok": [task.pk]})


def test_a_held_task_can_be_cancelled_and_stays_so(
    node: Node, submit: Submit, after: Any, time: Clock
) -> None:
    first = submit()
    second = after(afterok=[first])
    second.request_cancel()
    bring(first, State.COMPLETED, node)
    dispatch()
    assert again(second).state == State.CANCELLED
    assert set(Task.objects.values_list("state", flat=True)) <= FINAL
