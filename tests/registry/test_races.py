from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from registry import arrays, dependencies, orders, scheduler
from registry.models import Attempt, Model, Node, Stale, Task
from registry.models.life import Life
from registry.states import FINAL, State
from registry.submission import accept
from tests.conftest import Messages, make_node
from tests.registry.lives import again, bring
from tests.registry.race import race

pytestmark = pytest.mark.django_db(transaction=True)

Submit = Callable[..., Task]


def test_of_ten_starts_of_one_attempt_one_wins(node: Node, submit: Submit) -> None:
    for _ in range(5):
        task = bring(submit(), State.ASSIGNED, node)
        copies = [again(task) for _ in range(10)]
        results = race([lambda copy=copy: copy.start(node) for copy in copies])
        assert results.count(None) == 1
        assert all(isinstance(r, Stale) for r in results if r is not None), results
        assert [e.verb for e in task.events.all()].count("start") == 1
        again(task).complete({})


def test_a_race_of_ends_has_one_end(node: Node, submit: Submit) -> None:
    ends: list[Callable[[Task], None]] = [
        lambda task: task.complete({}),
        lambda task: task.fail("error", "It broke."),
        lambda task: task.release("node_lost", "Gone."),
        lambda task: task.cancel(),
        lambda task: task.pause(),
    ]
    for _ in range(3):
        task = bring(submit(), State.RUNNING, node)
        copies = [again(task) for _ in ends]
        results = race(
            [lambda e=e, c=c: e(c) for e, c in zip(ends, copies, strict=True)]
        )
        # A release or pause that wins leaves a state from which cancel may still leave.
        verbs = [event.verb for event in task.events.order_by("pk")][3:]
        assert results.count(None) == len(verbs)
        assert len(verbs) == 1 or (len(verbs) == 2 and verbs[1] == "cancel"), verbs
        assert not task.attempts.filter(finished_at=None).exists()


def test_two_cancels_and_a_completion_agree(node: Node, submit: Submit) -> None:
    for _ in range(5):
        task = bring(submit(), State.RUNNING, node)
        one, two, worker = again(task), again(task), again(task)
        results = race(
            [one.request_cancel, two.request_cancel, lambda w=worker: w.complete({})]
        )
        task.refresh_from_db()
        if results[2] is None:
            # It was quicker than at least the wish that would have stopped it.
            assert task.state == State.COMPLETED
            assert task.cancel_requested_at is None
            assert all(isinstance(r, Stale) for r in results[:2]), results
        else:
            assert isinstance(results[2], Stale), results
            assert results[:2] == [None, None]
            assert task.state == State.RUNNING
            assert task.cancel_requested_at is not None
            worker.cancel()


@pytest.mark.parametrize("verb", ["release", "fail"])
def test_a_wish_to_cancel_cannot_slip_in_between_look_and_write(
    verb: str, node: Node, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = bring(submit(), State.RUNNING, node)

    def cancel() -> None:
        again(task).request_cancel()
        connection.close()

    user, put_back = threading.Thread(target=cancel), Life._put_back

    def cancel_meanwhile(self: Life, *args: Any, **kwargs: Any) -> None:
        user.start()
        user.join(0.3)  # seconds; the lock holds it up until the commit
        put_back(self, *args, **kwargs)

    monkeypatch.setattr(Life, "_put_back", cancel_meanwhile)
    getattr(task, verb)("connection", "Away.")
    user.join(60)
    assert again(task).state == State.CANCELLED


def test_a_new_life_of_the_node_and_an_old_start_never_both_hold_it(
    node: Node, submit: Submit
) -> None:
    for _ in range(5):
        task = bring(submit(), State.ASSIGNED, node)
        old, copy = Node.objects.get(pk=node.pk), again(task)
        results = race([lambda c=copy, o=old: c.start(o), lambda: make_node()])
        assert results[0] is None or isinstance(results[0], Stale), results
        assert isinstance(results[1], Node), results
        task.refresh_from_db()
        assert task.state == State.PENDING
        assert not task.attempts.filter(finished_at=None).exists()
        task.request_cancel()
        node.refresh_from_db()


def test_eight_dispatches_neither_overcommit_nor_assign_twice(
    submit: Submit, messages: Messages
) -> None:
    make_node("cpu@one", cpus=4)
    make_node("cpu@two", cpus=3)
    tasks = [submit(cpus=1 + number % 2) for number in range(12)]
    results = race([scheduler.dispatch] * 8)
    assert not [r for r in results if isinstance(r, Exception)], results
    for node in Node.objects.all():
        placed = Task.objects.placed().filter(node=node)
        assert sum(task.cpus for task in placed) <= node.cpus
    placed = Task.objects.placed()
    assert sum(task.cpus for task in placed) == 7
    assert {task.attempt for task in placed} == {1}
    assert Attempt.objects.count() == placed.count()
    assert sorted(messages.sent) == sorted(task.celery_id for task in placed)
    assert sum(len(plan.places) for plan in results) == placed.count()
    assert len(tasks) > placed.count()


def test_dispatches_beside_ends_and_cancels_lose_nothing(
    submit: Submit, messages: Messages
) -> None:
    node = make_node(cpus=2)
    tasks = [submit() for _ in range(10)]
    scheduler.dispatch()
    running = list(Task.objects.placed())
    for task in running:
        task.start(node)
    ends = [lambda t=t: t.complete({}) for t in running]
    cancels = [lambda t=t: again(t).request_cancel() for t in tasks[2:5]]
    results = race([*ends, *cancels, *[scheduler.dispatch] * 4])
    assert not [r for r in results if isinstance(r, Exception)], results
    scheduler.dispatch()
    states = [task.state for task in Task.objects.order_by("pk")]
    assert states[:2] == [State.COMPLETED] * 2
    assert states[2:5] == [State.CANCELLED] * 3
    assert states[5:] == [State.ASSIGNED] * 2 + [State.PENDING] * 3


def test_new_lives_of_nodes_beside_dispatches_end_in_no_deadlock(
    submit: Submit, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "RESEND_AFTER", datetime.timedelta(0))
    for name in ("cpu@one", "cpu@two"):
        make_node(name, cpus=20)
    for number in range(30):
        submit(priority=number % 7)
    scheduler.dispatch()
    registers = [lambda n=n: make_node(n, cpus=20) for n in ("cpu@one", "cpu@two")] * 2
    results = race([*registers, *[scheduler.dispatch] * 4])
    assert not [r for r in results if isinstance(r, Exception)], results
    scheduler.dispatch()
    tasks = Task.objects.prefetch_related("attempts")
    assert {task.state for task in tasks} == {State.ASSIGNED}
    for task in tasks:
        live = [one.number for one in task.attempts.all() if not one.finished_at]
        assert live == [task.attempt]


def test_two_registrations_of_a_model_never_take_one_number(
    alice: User, time: object
) -> None:
    model = Model.objects.create(
        name="affinity", created_at="2026-01-05T09:00:00+00:00"
    )

    def register() -> int:
        with transaction.atomic():
            mine = Model.objects.get(pk=model.pk)
            return mine.register(digest="d", weights_sha256="w", size=1, recipe="r")

    results = race([register] * 6)
    assert sorted(version.number for version in results) == [1, 2, 3, 4, 5, 6]


def test_pauses_resumes_and_cancels_of_an_array_end_in_no_deadlock(
    alice: User, submit: Submit, messages: Messages
) -> None:
    make_node(cpus=3)
    for _ in range(3):
        head = arrays.submit(
            arrays.parse("0-20"), kind="predict", lane="cpu", owner=alice
        )
        scheduler.dispatch()
        for one in head.elements.filter(state=State.ASSIGNED):
            assert one.node is not None
            one.start(one.node)
        verbs = (arrays.pause, arrays.resume, arrays.cancel, arrays.retry)
        calls = [lambda v=v, h=head: v(again(h)) for v in verbs * 2]
        results = race([*calls, scheduler.dispatch, scheduler.dispatch])
        wrong = [r for r in results if isinstance(r, Exception)]
        assert all(isinstance(one, Stale) for one in wrong), wrong


def test_an_array_never_ends_before_an_element_that_is_retried(
    node: Node, alice: User, messages: Messages
) -> None:
    for _ in range(5):
        head = arrays.submit(arrays.parse("0"), kind="train", lane="cpu", owner=alice)
        element = head.elements.get()
        bring(element, State.FAILED, node)
        copy = Task.objects.select_related("array").get(pk=element.pk)
        race([copy.retry, arrays.settle])
        arrays.settle()
        assert again(element).state == State.PENDING
        assert again(head).state not in FINAL


def test_a_submit_that_depends_on_a_task_beside_its_removal_is_met_or_refused(
    node: Node, alice: User, submit: Submit
) -> None:
    for _ in range(10):
        first = bring(submit(), State.COMPLETED, node)

        def depend(pk: int = first.pk) -> Task:
            with transaction.atomic():
                on = dependencies.check(alice, {"afterok": [pk]})
                return accept(kind="train", lane="cpu", owner=alice, depends_on=on)

        result, removed = race([depend, lambda one=first: orders.purge(one)])
        assert removed is None
        assert isinstance(result, Task) or result.code == "unknown_task", result
