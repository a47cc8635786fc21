"""What users and operators set, as dispatch keeps to it, and what it writes of why and when."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from registry import arrays, fronts
from registry.models import Lane, Node, Reservation, Task, Use, UserLimit
from registry.resources import GIB
from registry.scheduler import dispatch
from registry.states import State
from tests.conftest import Clock, make_node
from tests.registry.lives import again, bring

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]


def states(tasks: list[Task]) -> list[str]:
    return [again(task).state for task in tasks]


def running(submit: Submit, node: Node, **fields: Any) -> Task:
    return bring(submit(**fields), State.RUNNING, node)


def test_users_take_turns(submit: Submit, bob: User, time: Clock) -> None:
    make_node(cpus=4)
    alices, bobs = [submit() for _ in range(6)], [submit(owner=bob) for _ in range(6)]
    dispatch()
    assert states(alices).count(State.ASSIGNED) == 2
    assert states(bobs).count(State.ASSIGNED) == 2


def test_who_used_much_yesterday_comes_after_who_used_nothing(
    submit: Submit, alice: User, bob: User, time: Clock
) -> None:
    make_node(cpus=1)
    yesterday = time() - datetime.timedelta(days=1)
    Use.objects.create(owner=alice, seconds=10_000.0, as_of=yesterday)
    first, second = submit(), submit(owner=bob)
    dispatch()
    assert states([first, second]) == [State.PENDING, State.ASSIGNED]


def test_what_runs_now_counts_as_use(submit: Submit, bob: User, time: Clock) -> None:
    node = make_node(cpus=2)
    mine = running(submit, node)
    time.forward(hours=1)
    node.beat()
    first, second = submit(), submit(owner=bob)
    dispatch()
    assert states([mine, first, second])[1:] == [State.PENDING, State.ASSIGNED]


def test_an_hour_of_waiting_outdoes_five_points_of_priority(
    submit: Submit, time: Clock
) -> None:
    old = submit(cpus=4)
    time.forward(hours=1)
    make_node(cpus=4)
    new = submit(cpus=4, priority=5)
    dispatch()
    assert states([old, new]) == [State.ASSIGNED, State.PENDING]


def test_the_limit_of_all_and_the_limit_of_one(
    submit: Submit, alice: User, bob: User, time: Clock
) -> None:
    make_node(cpus=64)
    UserLimit.objects.create(user=None, tasks=1)
    UserLimit.objects.create(user=bob, cpus=3)
    alices, bobs = [submit() for _ in range(3)], [submit(owner=bob) for _ in range(6)]
    dispatch()
    assert states(alices).count(State.ASSIGNED) == 1
    assert states(bobs).count(State.ASSIGNED) == 3
    assert again(alices[1]).waiting_for == [
        "Your limit is 1 running task; you may use 0 more until one of your tasks ends."
    ]


def test_a_limit_counts_what_still_runs_on_a_draining_node(
    submit: Submit, alice: User, time: Clock
) -> None:
    node = make_node("cpu@old")
    running(submit, node)
    Node.objects.update(draining=True)
    make_node("cpu@new")
    UserLimit.objects.create(user=alice, tasks=1)
    task = submit()
    dispatch()
    assert again(task).state == State.PENDING


def test_a_reserved_node_is_kept_for_its_users(
    submit: Submit, alice: User, bob: User, time: Clock
) -> None:
    node = make_node()
    window = Reservation.objects.create(
        name="course",
        lane="cpu",
        node=node,
        starts_at=time() + datetime.timedelta(hours=1),
        ends_at=time() + datetime.timedelta(hours=2),
    )
    window.users.add(bob)
    short, long = submit(time_limit=3600), submit(time_limit=3601)
    theirs = submit(owner=bob)
    dispatch()
    assert states([short, long, theirs]) == [
        State.ASSIGNED,
        State.PENDING,
        State.ASSIGNED,
    ]
    assert again(long).waiting_for[0] == (
        "cpu@one is reserved as course from 10:00 to 11:00 UTC."
    )
    assert again(long).estimated_start == window.ends_at


def test_a_paused_lane_starts_nothing_until_it_is_resumed(
    node: Node, submit: Submit, time: Clock
) -> None:
    Lane.objects.create(name="cpu", paused_at=time(), note="new disks")
    task = submit()
    dispatch()
    assert again(task).waiting_for == [
        "The lane cpu was paused at 2026-01-05 09:00 UTC: new disks."
    ]
    Lane.objects.update(paused_at=None)
    dispatch()
    assert again(task).state == State.ASSIGNED


def test_gpus_are_assigned_by_index_and_held_by_it(submit: Submit, time: Clock) -> None:
    gpus = [{"index": 3, "memory": 16 * GIB}, {"index": 5, "memory": 80 * GIB}]
    node = make_node("gpu@one", gpus=gpus)
    large = submit(lane="gpu", gpus=1, gpu_memory=40 * GIB)
    small, third = submit(lane="gpu", gpus=1), submit(lane="gpu", gpus=1)
    dispatch()
    assert large.attempts.get().gpus == [5]
    assert small.attempts.get().gpus == [3]
    bring_on = again(small)
    bring_on.start(node)
    bring_on.complete({})
    dispatch()
    assert third.attempts.get().gpus == [3]


def test_a_gpu_with_a_process_from_outside_is_not_given_out(
    submit: Submit, time: Clock
) -> None:
    busy = "GPU 0 is used by process 4711 (mallory) outside Compass."
    make_node("gpu@one", gpus=[{"index": 0, "memory": GIB, "busy": busy}])
    task = submit(lane="gpu", gpus=1)
    dispatch()
    assert f"On gpu@one, {busy}" in again(task).waiting_for
    Node.objects.update(gpus=[{"index": 0, "memory": GIB, "busy": ""}])
    dispatch()
    assert task.attempts.get().gpus == [0]


# Arrays


def test_an_array_with_a_limit_holds_nobody_up(
    submit: Submit, alice: User, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fronts, "LOOK_AT", 5)
    node = make_node(cpus=64)
    indexes = arrays.parse("0-99%4")
    head = arrays.submit(indexes, kind="script", lane="cpu", owner=alice)
    other = submit()
    dispatch()
    placed = head.elements.filter(state=State.ASSIGNED)
    assert list(placed.values_list("array_index", flat=True).order_by("pk")) == [
        0,
        1,
        2,
        3,
    ]
    assert again(other).state == State.ASSIGNED
    assert head.elements.get(array_index=4).waiting_for == [
        "Its array runs at most 4 of its tasks at a time."
    ]
    done = placed.order_by("pk").first()
    assert done is not None
    done.start(node)
    done.complete({})
    dispatch()
    assert head.elements.get(array_index=4).state == State.ASSIGNED
    assert placed.count() == 4


# Why and when


def test_the_reason_names_the_task_that_is_in_the_way_and_until_when(
    submit: Submit, time: Clock
) -> None:
    node = make_node(cpus=8)
    holder = running(submit, node, cpus=5, time_limit=1800)
    time.forward(minutes=2)
    node.beat()
    task = submit(cpus=8)
    dispatch()
    assert again(task).waiting_for == [
        f"Needs 8 CPUs; cpu@one has 3 free until task {holder.pk} ends, "
        "about 09:30 UTC."
    ]
    assert again(task).estimated_start == time().replace(hour=9, minute=30)


def test_past_durations_tell_the_start_where_there_is_no_limit(
    submit: Submit, time: Clock
) -> None:
    node = make_node(cpus=4)
    running(submit, node, cpus=4, expected=600)
    first, second = submit(cpus=4, expected=300), submit(cpus=4)
    dispatch()
    at = [again(task).estimated_start for task in (first, second)]
    assert at == [time() + datetime.timedelta(minutes=10 + wait) for wait in (0, 5)]


def test_a_start_that_nobody_can_tell_any_more_is_taken_back(
    submit: Submit, time: Clock
) -> None:
    node = make_node(cpus=4)
    holder = running(submit, node, cpus=4, time_limit=600)
    task = submit(cpus=4)
    dispatch()
    assert again(task).estimated_start is not None
    Task.objects.filter(pk=holder.pk).update(time_limit=None)
    dispatch()
    assert again(task).estimated_start is None


def test_a_later_pass_with_the_same_answer_writes_nothing(
    submit: Submit, time: Clock
) -> None:
    node = make_node(cpus=4)
    running(submit, node, cpus=4, time_limit=3000)
    for _ in range(5):
        submit(cpus=4, time_limit=100)
    dispatch()
    time.forward(seconds=13, milliseconds=337)
    node.beat()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        dispatch()
    written = [q["sql"] for q in queries if q["sql"].startswith(("UPDATE", "INSERT"))]
    assert written == []


def test_the_number_of_statements_does_not_grow_with_the_line(
    submit: Submit, time: Clock
) -> None:
    node = make_node(cpus=4)
    running(submit, node, cpus=4)
    counts = []
    for _ in range(2):
        for _ in range(30):
            submit(cpus=2)
        dispatch()
        with CaptureQueriesContext(connection) as queries:
            dispatch()
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 25


def test_many_are_assigned_in_a_few_statements(submit: Submit, time: Clock) -> None:
    make_node(cpus=64)
    tasks = [submit() for _ in range(64)]
    with CaptureQueriesContext(connection) as queries:
        dispatch()
    assert states(tasks) == [State.ASSIGNED] * 64
    assert len(queries) <= 30
    for task in tasks:
        assert [event.verb for event in task.events.order_by("pk")] == [
            "submit",
            "assign",
        ]


def test_what_is_low_in_priority_is_seen_behind_a_long_line(
    submit: Submit, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fronts, "LOOK_AT", 3)
    low = submit(cpus=4, priority=-2)
    time.forward(hours=1)
    for _ in range(6):
        submit(cpus=4, priority=1)
    make_node(cpus=4)
    dispatch()
    assert again(low).state == State.ASSIGNED


def test_a_small_one_passes_a_big_one_for_half_a_minute_only(
    submit: Submit, time: Clock
) -> None:
    node = make_node(cpus=4)
    running(submit, node, cpus=2)
    big, small = submit(cpus=4), submit()
    dispatch()
    assert states([big, small]) == [State.PENDING, State.ASSIGNED]
    time.forward(seconds=30)
    node.beat()
    later = submit()
    dispatch()
    assert again(later).waiting_for == [
        f"Would delay task {big.pk}, which is first in line for cpu@one."
    ]


def test_it_goes_on_while_all_that_it_looked_at_was_placed(
    submit: Submit, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fronts, "LOOK_AT", 3)
    make_node(cpus=10)
    tasks = [submit() for _ in range(12)]
    plan = dispatch()
    assert len(plan.places) == 10
    assert states(tasks) == [State.ASSIGNED] * 10 + [State.PENDING] * 2
