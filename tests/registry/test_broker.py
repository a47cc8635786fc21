from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import current_app
from django.db import transaction

from registry import broker
from registry.broker import revoke, send  # the real ones, before `messages` stands in
from registry.models import Node, Task
from registry.scheduler import dispatch
from registry.states import State
from tests.registry.lives import again, bring

pytestmark = pytest.mark.django_db(transaction=True)

Submit = Callable[..., Task]
WITHIN = 10  # seconds


class Celery:
    """A Celery application that notes its calls, and fails the first few on demand."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failures = 0
        self.control = self

    def signature(self, name: str, args: list[int]) -> Any:
        outer = self

        class Signature:
            def apply_async(self, *, queue: str, task_id: str) -> None:
                outer.note("send", name, args, queue, task_id)

        return Signature()

    def revoke(self, task_id: str) -> None:
        self.note("revoke", task_id)

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the broker is away")


@pytest.fixture
def celery(monkeypatch: pytest.MonkeyPatch) -> Celery:
    fake = Celery()
    monkeypatch.setattr(broker, "current_app", fake)
    monkeypatch.setattr(broker, "send", send)
    monkeypatch.setattr(broker, "revoke", revoke)
    return fake


def settle() -> None:
    """Wait until the sender has made all calls that it was given before."""
    reached = threading.Event()
    broker.call(reached.set)
    assert reached.wait(WITHIN)


@pytest.fixture(autouse=True)
def _settled() -> Iterator[None]:
    yield
    settle()


def test_a_message_names_the_attempt_and_goes_to_the_nodes_queue(
    celery: Celery, node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.ASSIGNED, node)
    send(task)
    settle()
    name = f"{task.pk}-1"
    assert celery.calls == [("send", "training.run", [task.pk, 1], "cpu.one", name)]


def test_each_kind_has_its_own_celery_task(
    celery: Celery, node: Node, submit: Submit
) -> None:
    send(bring(submit(kind="predict", lane="inference"), State.ASSIGNED, node))
    settle()
    assert celery.calls[0][1] == "inference.run"


def test_dispatch_sends_after_its_commit(
    celery: Celery, node: Node, submit: Submit
) -> None:
    task = submit()
    with transaction.atomic():
        dispatch()
        settle()
        assert celery.calls == []
    settle()
    assert [call[-1] for call in celery.calls] == [f"{task.pk}-1"]


def test_nothing_is_sent_for_what_was_rolled_back(
    celery: Celery, node: Node, submit: Submit
) -> None:
    task = submit()
    running = bring(submit(), State.RUNNING, node)
    with transaction.atomic():
        dispatch()
        running.request_cancel()
        revoke(running)
        transaction.set_rollback(True)
    settle()
    assert celery.calls == []
    assert again(task).state == State.PENDING


def test_a_message_carries_the_attempt_that_was_placed_not_a_later_one(
    celery: Celery, node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.ASSIGNED, node)
    with transaction.atomic():
        send(task)
        task.release("node_lost", "Gone.")
        task.assign(node)
    settle()
    assert celery.calls[0][2] == [task.pk, 1]


def test_a_revocation_names_the_attempt(
    celery: Celery, node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.RUNNING, node)
    revoke(task)
    settle()
    assert celery.calls == [("revoke", f"{task.pk}-1")]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_revocation_is_tried_twice_and_no_more(
    failures: int, celery: Celery, node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.RUNNING, node)
    celery.failures = failures
    revoke(task)
    settle()
    assert celery.calls == [("revoke", f"{task.pk}-1")] * 2


def test_a_broker_that_is_away_costs_the_caller_nothing(
    celery: Celery, node: Node, submit: Submit, caplog: pytest.LogCaptureFixture
) -> None:
    task = submit()
    celery.failures = 1
    with caplog.at_level(logging.WARNING, "registry.broker"):
        dispatch()
        settle()
    assert again(task).state == State.ASSIGNED
    assert "the broker is away" in caplog.text
    send(again(task))
    settle()
    assert len(celery.calls) == 2


def test_no_caller_waits_for_the_broker(
    celery: Celery, node: Node, submit: Submit
) -> None:
    frozen = threading.Event()
    try:
        broker.call(lambda: frozen.wait(WITHIN))
        task = submit()
        dispatch()  # returns although the sender hangs
        assert again(task).state == State.ASSIGNED
        assert celery.calls == []
    finally:
        frozen.set()
    settle()
    assert len(celery.calls) == 1


def test_the_sender_is_begun_again_if_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = threading.Thread(target=lambda: None)
    gone.start()
    gone.join()
    monkeypatch.setattr(broker, "_sender", gone)
    settle()
    assert broker._sender is not gone


def test_the_sender_speaks_for_the_projects_celery_application() -> None:
    names: list[str] = []
    broker.call(lambda: names.append(current_app.main))
    settle()
    assert names == ["compass"]
