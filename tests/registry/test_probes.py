"""Probes go the whole way of a task, many at once, by the guards of the verbs for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from registry import broker, membership, probes, tasks
from registry.models import Node, Task
from registry.scheduler import dispatch
from registry.states import State
from tests.conftest import Clock, Messages, make_node
from tests.registry.lives import again
from tests.registry.race import race

pytestmark = pytest.mark.django_db


@pytest.fixture
def placed(node: Node, alice: User, time: Clock) -> list[Task]:
    found = probes.submit(alice, "cpu", 5)
    dispatch()
    return [again(task) for task in found]


def pairs(found: list[Task]) -> list[tuple[int, int]]:
    return [(task.pk, task.attempt) for task in found]


def story(task: Task) -> list[tuple[str, str, int]]:
    events = task.events.order_by("pk").values_list("verb", "state", "attempt")
    return [(verb, state, attempt) for verb, state, attempt in events]


def test_they_leave_the_rows_that_the_verbs_for_one_leave(
    placed: list[Task], node: Node, alice: User
) -> None:
    single = Task.objects.submit(kind="probe", lane="cpu", owner=alice, cpus=0)
    dispatch()
    single = again(single)
    single.start(node)
    single.complete({"node": node.name, "pid": node.pid})
    assert probes.run(node, pairs(placed)) == 5
    for task in map(again, placed):
        assert story(task) == story(single)
        for field in Task._meta.concrete_fields:
            if field.name not in ("id",):
                mine, other = (
                    getattr(task, field.attname),
                    getattr(single, field.attname),
                )
                assert mine == other, field.name
        mine, other = task.attempts.get(), single.attempts.get()
        for field in type(mine)._meta.concrete_fields:
            if field.name not in ("id", "task"):
                assert getattr(mine, field.attname) == getattr(other, field.attname)


def test_they_hold_nothing_and_are_all_placed_at_once(
    time: Clock, alice: User, messages: Messages
) -> None:
    make_node(cpus=1)
    found = probes.submit(alice, "cpu", 7)
    dispatch()
    assert {again(task).state for task in found} == {State.ASSIGNED}
    assert set(messages.sent) == {f"{task.pk}-1" for task in found}


def test_a_second_delivery_finds_nothing_to_do(placed: list[Task], node: Node) -> None:
    assert probes.run(node, pairs(placed)) == 5
    assert probes.run(node, pairs(placed)) == 0


@pytest.mark.parametrize("why", ["attempt", "cancelled", "other life", "other node"])
def test_what_is_no_longer_its_own_is_left_alone(
    why: str, placed: list[Task], node: Node
) -> None:
    asked = pairs(placed)
    if why == "attempt":
        asked = [(task, attempt + 1) for task, attempt in asked]
    if why == "cancelled":
        for task in placed:
            task.request_cancel()
    if why == "other life":
        Node.objects.filter(pk=node.pk).update(incarnation="another")
    if why == "other node":
        node = make_node("cpu@two")
    before = [again(task).state for task in placed]
    assert probes.run(node, asked) == 0
    assert [again(task).state for task in placed] == before


def test_a_wish_to_cancel_between_start_and_end_is_met(
    placed: list[Task], node: Node
) -> None:
    begun = probes.start_all(node, pairs(placed))
    again(begun[0]).request_cancel()
    probes.complete_all(begun, {})
    states = [again(task).state for task in begun]
    assert states == [State.CANCELLED] + [State.COMPLETED] * 4


def test_what_another_attempt_has_taken_over_is_not_ended(
    placed: list[Task], node: Node
) -> None:
    begun = probes.start_all(node, pairs(placed))
    again(begun[0]).release("node_lost", "Gone.")
    dispatch()
    probes.complete_all(begun, {})
    assert again(begun[0]).state == State.ASSIGNED
    assert again(begun[0]).attempt == 2
    assert {again(task).state for task in begun[1:]} == {State.COMPLETED}


def test_attempts_of_several_numbers_end_together(
    placed: list[Task], node: Node
) -> None:
    begun = probes.start_all(node, pairs(placed)[:2])
    for task in begun:
        again(task).release("node_lost", "Gone.")
    dispatch()
    found = [again(task) for task in placed]
    assert {task.attempt for task in found} == {1, 2}
    assert probes.run(node, pairs(found)) == 5
    for task in map(again, found):
        outcomes = list(task.attempts.values_list("outcome", flat=True))
        assert outcomes[-1] == State.COMPLETED
        assert task.attempts.filter(finished_at=None).count() == 0


def test_a_message_carries_many_of_a_node(
    placed: list[Task], monkeypatch: pytest.MonkeyPatch, submit: Callable[..., Task]
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(broker, "MANY", 3)
    monkeypatch.setattr(
        broker, "send_many", lambda name, queue, some: sent.append((name, queue, some))
    )
    monkeypatch.setattr(broker, "send", lambda task: sent.append(task))
    other = submit()
    broker.send_all([*placed, other])
    assert sent[0] == other
    assert [(name, queue, len(some)) for name, queue, some in sent[1:]] == [
        ("registry.probe", "cpu.one", 3),
        ("registry.probe", "cpu.one", 2),
    ]


def test_the_celery_task_needs_a_node(
    placed: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_here", None)
    with pytest.raises(LookupError):
        tasks.probe([list(pair) for pair in pairs(placed)])


@pytest.mark.django_db(transaction=True)
def test_of_several_deliveries_at_once_each_probe_is_run_by_one(
    placed: list[Task], node: Node
) -> None:
    asked = pairs(placed)
    counts = race([lambda: probes.run(node, asked)] * 6)
    assert sum(counts) == 5
    assert all(len(story(task)) == 4 for task in placed)
