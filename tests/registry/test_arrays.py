"""Many tasks that differ by an index, and the row that stands for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from registry import arrays, cancellation, dependencies
from registry.errors import Problem
from registry.models import Node, Stale, Task
from registry.scheduler import dispatch
from registry.states import FINAL, State
from registry.submission import accept
from tests.conftest import Clock, Messages, make_node
from tests.registry.lives import again

pytestmark = pytest.mark.django_db


@pytest.fixture
def array(alice: User) -> Callable[..., Task]:
    def array(text: str, **fields: Any) -> Task:
        return accept(
            array=arrays.parse(text),
            **{"kind": "script", "lane": "cpu", "owner": alice, "name": "a", **fields},
        )

    return array


def elements(head: Task, *states: State) -> list[Task]:
    rows = head.elements.order_by("array_index")
    return list(rows.filter(state__in=states) if states else rows)


def finish(head: Task, node: Node, how: str = "complete") -> int:
    """Let everything that is placed end; how many that were."""
    placed = elements(head, State.ASSIGNED)
    for task in placed:
        task.start(node)
        if how == "complete":
            task.complete({})
        else:
            task.fail("exit_status", "It ended with exit code 3.")
    return len(placed)


@pytest.mark.parametrize(
    ("text", "values", "limit"),
    [
        ("0-3", (0, 1, 2, 3), None),
        ("0-99%4", tuple(range(100)), 4),
        ("1,3,7", (1, 3, 7), None),
        ("0-10:5, 3 %2", (0, 3, 5, 10), 2),
        ("7", (7,), None),
        ("3,1-3", (1, 2, 3), None),
    ],
)
def test_it_reads_slurms_form(
    text: str, values: tuple[int, ...], limit: int | None
) -> None:
    assert arrays.parse(text) == arrays.Indexes(values, limit)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "-1", "3-1", "0-9%0", "0-9%", "0-9%x", "0-9:0", "0-999999999",
        "1000001", "0-10000", ",".join(["0-9999", "20000"]), "1,,2", "0x3", "1-2-3",
        "٣", "0-9%4%4",
    ],
)  # fmt: skip
def test_an_absurd_array_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(Problem) as refused:
        arrays.parse(text)
    assert refused.value.errors["array"][0]


def test_the_head_is_never_placed_and_ends_completed_with_its_last_element(
    array: Any, time: Clock
) -> None:
    node = make_node(cpus=2)
    head = array("0-4")
    rounds = 0
    while again(head).state not in FINAL:
        dispatch()
        assert again(head).node is None
        finish(head, node)
        dispatch()
        rounds += 1
    assert rounds == 3
    head = again(head)
    assert (head.state, head.result["completed"]) == (State.COMPLETED, 5)
    assert head.progress["fraction"] == 1.0
    assert not head.attempts.exists()
    assert [one.array_index for one in elements(head, State.COMPLETED)] == [
        0,
        1,
        2,
        3,
        4,
    ]
    verbs = list(head.events.values_list("verb", flat=True))
    assert verbs == ["submit", "begin", "settle"]


def test_it_fails_with_the_first_failure_once_all_have_ended(
    node: Node, array: Any, time: Clock
) -> None:
    head = array("0-1")
    dispatch()
    finish(head, node, "fail")
    dispatch()
    head = again(head)
    assert (head.state, head.reason) == (State.FAILED, "exit_status")
    first = elements(head)[0]
    assert head.message == (
        f"2 of 2 elements failed; the first is task {first.pk}: "
        "It ended with exit code 3."
    )


def test_cancel_ends_what_waits_and_asks_for_the_rest(
    array: Any, messages: Messages, time: Clock
) -> None:
    node = make_node(cpus=2)
    head = array("0-9")
    dispatch()
    running = elements(head, State.ASSIGNED)
    running[0].start(node)
    cancellation.cancel(again(head))
    assert len(elements(head, State.CANCELLED)) == 9
    assert messages.revoked == [task.celery_id for task in running]
    assert again(head).state == State.RUNNING
    task = again(running[0])
    assert task.cancel_requested_at
    task.cancel()
    dispatch()
    assert again(head).state == State.CANCELLED
    for element in elements(head):
        assert element.events.last().state == State.CANCELLED  # type: ignore[union-attr]


def test_a_cancelled_array_ends_cancelled_whatever_failed_before(
    array: Any, time: Clock
) -> None:
    node = make_node(cpus=1)
    head = array("0-2")
    dispatch()
    finish(head, node, "fail")
    cancellation.cancel(again(head))
    head = again(head)
    assert (head.state, head.reason) == (State.CANCELLED, "cancelled_by_user")
    assert head.message == "2 of 3 elements were cancelled, 1 failed."
    assert head.result == {"completed": 0, "failed": 1, "cancelled": 2}


def test_an_array_whose_elements_have_all_ended_cannot_be_cancelled(
    array: Any, time: Clock
) -> None:
    node = make_node(cpus=2)
    head = array("0-1")
    dispatch()
    finish(head, node)
    with pytest.raises(Stale):
        cancellation.cancel(again(head))
    dispatch()
    assert again(head).state == State.COMPLETED


def test_cancel_of_an_array_that_waits_is_met_at_once(array: Any, time: Clock) -> None:
    head = array("0-9")
    cancellation.cancel(head)
    assert again(head).state == State.CANCELLED


def test_the_whole_array_waits_for_a_dependency_and_fails_with_it(
    node: Node, array: Any, submit: Any, alice: User, time: Clock
) -> None:
    first, second = submit(), submit()
    heads = []
    for task in (first, second):
        wanted = dependencies.check(alice, {"afterok": [task.pk]})
        heads.append(array("0-2", depends_on=wanted))
    dispatch()
    assert not elements(heads[0], State.ASSIGNED)
    one, two = again(first), again(second)
    one.start(node)
    one.complete({})
    two.start(node)
    two.fail("error", "It broke.")
    dispatch()
    assert len(elements(heads[0], State.ASSIGNED)) == 3
    assert len(elements(heads[1], State.FAILED)) == 3
    assert again(heads[1]).reason == "dependency_failed"


def test_another_task_may_wait_for_the_whole_array(
    node: Node, array: Any, alice: User, time: Clock
) -> None:
    head = array("0-1")
    wanted = dependencies.check(alice, {"afterok": [head.pk]})
    last = accept(kind="script", lane="cpu", owner=alice, depends_on=wanted)
    dispatch()
    assert again(last).held
    finish(head, node)
    dispatch()
    assert again(last).state == State.ASSIGNED


def test_a_retried_element_opens_its_array_again(
    node: Node, array: Any, time: Clock
) -> None:
    head = array("0-1")
    dispatch()
    finish(head, node, "fail")
    dispatch()
    elements(head)[0].retry()
    assert again(head).state == State.PENDING
    dispatch()
    finish(head, node)
    dispatch()
    assert (again(head).state, again(head).result["failed"]) == (State.FAILED, 1)
    arrays.retry(again(head))
    dispatch()
    assert finish(head, node) == 1
    dispatch()
    assert again(head).state == State.COMPLETED


def test_what_elements_have_in_common_stands_once(array: Any) -> None:
    head = array("0-1", params={"script": "true"})
    assert [one.params for one in elements(head)] == [{}, {}]
    assert [one.asked for one in elements(head)] == [{"script": "true"}] * 2
