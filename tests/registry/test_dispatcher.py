"""Passes in the background: few, never missed, and nobody waits for them."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from registry import dispatcher
from registry.dispatcher import LONGEST_REST, Dispatcher, Outcome
from registry.models import Node, Task
from registry.placement import Plan
from registry.states import State
from tests.registry.lives import again

WITHIN = 30  # seconds for a thread to do its part


class Passes:
    """A pass that waits until the test lets it end."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Semaphore(0), threading.Semaphore(0)
        self.count = 0

    def __call__(self) -> Outcome:
        self.begun.release()
        assert self.may_end.acquire(timeout=WITHIN)
        self.count += 1
        return Outcome()


@pytest.fixture
def passes() -> Passes:
    return Passes()


@pytest.fixture
def slow(passes: Passes) -> Iterator[Dispatcher]:
    made = Dispatcher(passes, rest=lambda seconds: None, idle=0.0)
    yield made
    for _ in range(100):
        passes.may_end.release()
    assert made.flush(WITHIN)


def test_a_wish_returns_before_the_pass(slow: Dispatcher, passes: Passes) -> None:
    slow.nudge()
    assert passes.begun.acquire(timeout=WITHIN)
    assert passes.count == 0


def test_many_wishes_during_a_pass_are_one_pass(
    slow: Dispatcher, passes: Passes
) -> None:
    slow.nudge()
    assert passes.begun.acquire(timeout=WITHIN)
    for _ in range(50):
        slow.nudge()
    passes.may_end.release(2)
    assert slow.flush(WITHIN)
    assert passes.count == 2


def test_a_wish_during_a_pass_is_met_by_a_pass_that_begins_later(
    slow: Dispatcher, passes: Passes
) -> None:
    slow.nudge()
    assert passes.begun.acquire(timeout=WITHIN)
    slow.nudge()
    passes.may_end.release()
    assert passes.begun.acquire(timeout=WITHIN)
    assert not slow.flush(0.0)  # the first pass did not meet it


def test_a_pass_that_fails_does_not_end_the_dispatcher(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes: Iterator[Any] = iter([RuntimeError("Away."), None])
    seen: list[Any] = []

    def run() -> Outcome:
        seen.append(outcome := next(outcomes))
        if outcome:
            raise outcome
        return Outcome()

    made = Dispatcher(run, rest=lambda seconds: None, idle=0.0)
    made.nudge()
    assert made.flush(WITHIN)
    made.nudge()
    assert made.flush(WITHIN)
    assert len(seen) == 2
    assert "The regular dispatch places it: Away." in caplog.text


def test_a_pass_that_may_have_left_more_behind_is_followed_by_another() -> None:
    left = iter([True, True, False])
    seen: list[bool] = []

    def run() -> Outcome:
        seen.append(more := next(left))
        return Outcome(1, more)

    made = Dispatcher(run, rest=lambda seconds: None, idle=0.0)
    made.nudge()
    if (thread := made._thread) is not None:
        thread.join(WITHIN)  # it ends when nothing more is wished
    assert seen == [True, True, False]


@pytest.mark.parametrize(
    ("placed", "waiting", "more"), [(100, 0, True), (100, 1, False), (99, 0, False)]
)
def test_more_is_looked_for_behind_a_full_window(
    placed: int, waiting: int, more: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan()
    plan.places.update(dict.fromkeys(range(placed)))  # type: ignore[arg-type]
    plan.waits.update({-n - 1: ["It waits."] for n in range(waiting)})
    monkeypatch.setattr(dispatcher.scheduler, "dispatch", lambda: plan)
    assert dispatcher.one_pass() == (placed, more)


def test_between_passes_the_others_may_write_longer_after_one_in_vain() -> None:
    rests: list[float] = []
    outcomes = iter([Outcome(1), Outcome(0)])

    def run() -> Outcome:
        threading.Event().wait(0.01)
        return next(outcomes)

    made = Dispatcher(run, rest=rests.append, idle=0.0)
    for _ in range(2):
        made.nudge()
        assert made.flush(WITHIN)
        if (thread := made._thread) is not None:
            thread.join(WITHIN)
    assert 0 < rests[0] < rests[1] <= LONGEST_REST


def test_an_idle_dispatcher_has_no_thread_and_begins_again() -> None:
    count: list[int] = []
    made = Dispatcher(
        lambda: count.append(1) or Outcome(), rest=lambda seconds: None, idle=0.0
    )
    made.nudge()
    assert made.flush(WITHIN)
    thread = made._thread
    if thread is not None:
        thread.join(WITHIN)
    assert made._thread is None
    made.nudge()
    assert made.flush(WITHIN)
    assert len(count) == 2


def test_a_forked_child_has_a_dispatcher_of_its_own() -> None:
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
    parents = dispatcher._current

    def child() -> None:
        there.send(dispatcher._current is not parents)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    assert here.poll(WITHIN)
    assert here.recv()
    process.join(WITHIN)


@pytest.mark.django_db(transaction=True)
def test_what_is_asked_for_is_placed(
    node: Node, submit: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Dispatcher(dispatcher.one_pass, idle=0.0)
    task = submit()
    made.nudge()
    assert made.flush(WITHIN)
    if made._thread is not None:
        made._thread.join(WITHIN)  # with its connection, or the database cannot go
    assert again(task).state == State.ASSIGNED
