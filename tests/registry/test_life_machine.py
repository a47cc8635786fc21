"""Tasks, nodes and time in any order, with doubled, late and stale calls throughout."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from registry import clock
from registry.maintenance import rescue
from registry.models import Node, Stale, Task
from registry.resources import GIB, Resources
from registry.scheduler import dispatch
from registry.states import FINAL, LIVE, PLACED, REASONS, Move, State
from tests.conftest import Clock, Messages, make_node

EXAMPLES = int(os.environ.get("COMPASS_TEST_EXAMPLES", "12"))
NAMES = ("cpu@one", "cpu@two", "gpu@one")
ENDS: dict[str, Callable[[Task, str], None]] = {
    "beat": lambda task, reason: task.beat(progress={"step": 1}),
    "complete": lambda task, reason: task.complete({"done": True}),
    "fail": lambda task, reason: task.fail(reason, "It broke."),
    "release": lambda task, reason: task.release("worker_stopped", "Stopped."),
    "cancel": lambda task, reason: task.cancel(),
    "pause": lambda task, reason: task.pause(),
}
LEAVES = {
    "beat": {State.RUNNING},
    "complete": Move.COMPLETE.sources,
    "fail": Move.FAIL.sources,
    "release": Move.RELEASE.sources,
    "cancel": Move.CANCEL.sources,
    "pause": Move.PAUSE.sources,
}
USERS = {
    "request_cancel": LIVE,
    "request_pause": {State.RUNNING},
    "resume": Move.RESUME.sources,
    "retry": Move.RETRY.sources,
}
anyone = st.integers(0, 10**6)


class Life(RuleBasedStateMachine):
    messages: Messages
    owner: User
    reached: set[tuple[str, bool]]  # verbs, and whether they were allowed

    def __init__(self) -> None:
        super().__init__()
        self.time = Clock(datetime.datetime(2026, 1, 5, 9, 0, tzinfo=datetime.UTC))
        clock.now = self.time
        self.messages.sent.clear()
        self.tasks: list[int] = []
        self.lives: list[Node] = []  # every life of every node, the earlier ones too
        self.held: list[Task] = []  # what supervisors hold, the cut off ones too
        self.ended: dict[int, dict[str, Any]] = {}
        self.example = transaction.atomic()
        self.example.__enter__()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    def pick(self, things: list[Any], number: int) -> Any:
        return things[-1 - number % len(things)]  # the newest for the smallest number

    def attempt(
        self, task: Task, verb: str, call: Callable[[], None], *, allowed: bool
    ) -> bool:
        """Make the call; it must work exactly if it is allowed, else change nothing."""
        self.reached.add((verb, allowed))
        before = Task.objects.filter(pk=task.pk).values().get()
        told = task.events.count()
        try:
            call()
        except Stale:
            assert not allowed
            assert Task.objects.filter(pk=task.pk).values().get() == before
            assert task.events.count() == told
            return False
        assert allowed
        assert task.events.count() == told + (verb != "beat")
        return True

    # Time and nodes

    @initialize()
    def begin(self) -> None:
        """One task runs, one is paused, one waits: every example has something to break."""
        self.lives += [make_node(NAMES[0], cpus=2), make_node(NAMES[1], cpus=3)]
        for cpus in (1, 2, 1):
            self.submit(cpus=cpus, gpus=0, priority=0, max_retries=1)
        self.dispatch()
        for number in (2, 1):
            self.message_comes(number, 0, strayed=False)
        self.worker_speaks(0, "pause", "error")

    @rule(seconds=st.sampled_from([1, 4, 6, 16, 31, 61]), silent=st.booleans())
    def time_passes(self, seconds: int, silent: bool) -> None:
        self.time.forward(seconds=seconds)
        for life in [] if silent else self.lives:
            life.beat()

    @rule(name=st.sampled_from(NAMES), cpus=st.integers(1, 4))
    def node_registers(self, name: str, cpus: int) -> None:
        gpus = [{"index": 0}] if name.startswith("gpu") else []
        node = make_node(name, cpus=cpus, gpus=gpus)
        self.lives.append(node)
        assert not node.tasks.filter(state__in=PLACED).exists()

    @rule(number=anyone, does=st.sampled_from(["beat", "stop", "drain", "undrain"]))
    def node_speaks(self, number: int, does: str) -> None:
        life = self.pick(self.lives, number)
        before = Node.objects.filter(pk=life.pk).values().get()
        newest = before["incarnation"] == life.incarnation
        if does == "beat":
            assert life.beat() is newest
        elif does == "stop":
            life.stop()
            after = Node.objects.filter(pk=life.pk).values().get()
            assert newest or after == before
        else:
            Node.objects.filter(pk=life.pk).update(draining=does == "drain")

    # The control plane

    @rule(
        cpus=st.integers(1, 3),
        gpus=st.integers(0, 1),
        priority=st.integers(-1, 1),
        max_retries=st.integers(0, 2),
    )
    def submit(self, cpus: int, gpus: int, **fields: int) -> None:
        lane = "gpu" if gpus else "cpu"
        task = Task.objects.submit(
            kind="train",
            owner=self.owner,
            lane=lane,
            cpus=cpus,
            gpus=gpus,
            memory=GIB,
            **fields,
        )
        self.tasks.append(task.pk)

    @rule()
    def dispatch(self) -> None:
        moment, sent = self.time(), len(self.messages.sent)
        plan = dispatch()
        up = [n for n in Node.objects.up(moment) if not n.draining]
        for pk, where in plan.places.items():
            task = Task.objects.get(pk=pk)
            assert (task.state, task.node) in [(State.ASSIGNED, node) for node in up]
            assert task.node is not None
            assert task.node.name == where.node
            assert task.celery_id in self.messages.sent[sent:]
        for task in Task.objects.in_line(moment):
            assert task.waiting_for
            kept = plan.kept.get(task.lane)
            for node in up:
                fits = task.resources.fits(self.free(node))
                is_kept = kept and kept.node == node.name and kept.task != task.pk
                assert node.lane != task.lane or not fits or is_kept

    @rule()
    def rescue(self) -> None:
        rescue()
        lost = Node.objects.lost(self.time())
        assert not Task.objects.placed().filter(node__in=lost).exists()

    # Workers: messages come at any time and any number of times

    @precondition(lambda self: self.messages.sent)
    @rule(message=anyone, life=anyone, strayed=st.booleans())
    def message_comes(self, message: int, life: int, *, strayed: bool) -> None:
        pk, _, attempt = self.pick(self.messages.sent, message).partition("-")
        node = self.pick(self.lives, life)
        if not strayed:
            node = Task.objects.get(pk=pk).node
        task = Task.objects.get(pk=pk)
        allowed = (
            (task.state, task.attempt) == (State.ASSIGNED, int(attempt))
            and task.node_id == node.pk
            and Node.objects.get(pk=node.pk).incarnation == node.incarnation
        )
        task.attempt = int(attempt)
        if self.attempt(task, "start", lambda: task.start(node), allowed=allowed):
            assert task.state == State.RUNNING
            self.held.append(task)

    @precondition(lambda self: self.held)
    @rule(
        number=st.integers(0, 3),
        verb=st.sampled_from(sorted(ENDS)),
        reason=st.sampled_from(sorted(REASONS)),
    )
    def worker_speaks(self, number: int, verb: str, reason: str) -> None:
        task = self.pick(self.held, number)
        row = Task.objects.get(pk=task.pk)
        allowed = row.attempt == task.attempt and row.state in LEAVES[verb]
        if verb == "complete" and row.cancel_requested_at:
            allowed = False
        done = self.attempt(
            task, verb, lambda: ENDS[verb](task, reason), allowed=allowed
        )
        if done and verb != "beat":
            if row.cancel_requested_at:
                assert task.state == State.CANCELLED
            elif row.pause_requested_at:
                assert task.state in FINAL | {State.PAUSED}

    # Users

    @precondition(lambda self: self.tasks)
    @rule(number=anyone, verb=st.sampled_from(sorted(USERS)))
    def user_asks(self, number: int, verb: str) -> None:
        task = Task.objects.get(pk=self.pick(self.tasks, number))
        was, allowed = task.state, task.state in USERS[verb]
        if self.attempt(task, verb, getattr(task, verb), allowed=allowed):
            if verb == "request_cancel":
                assert task.state == (was if was == State.RUNNING else State.CANCELLED)
            self.ended.pop(task.pk if verb == "retry" else 0, None)

    # What holds after every step

    def free(self, node: Node) -> Resources:
        free = node.capacity
        for task in Task.objects.placed().filter(node=node):
            free = free.minus(task.resources)
        return free

    @invariant()
    def no_node_is_overcommitted(self) -> None:
        for node in Node.objects.all():
            assert Resources(0, 0, 0).fits(self.free(node))

    @invariant()
    def every_row_is_whole(self) -> None:
        for row in Task.objects.prefetch_related("attempts", "events"):
            attempts, events = list(row.attempts.all()), list(row.events.all())
            live = [one.number for one in attempts if one.finished_at is None]
            assert live == ([row.attempt] if row.state in PLACED else [])
            assert [one.number for one in attempts] == list(range(1, row.attempt + 1))
            assert events[-1].state == row.state
            assert events[-1].attempt == row.attempt
            assert (row.finished_at is not None) == (row.state in FINAL)
            assert row.state not in PLACED or row.node_id is not None
            assert row.pause_requested_at is None or row.state == State.RUNNING
            asked = row.cancel_requested_at is not None
            assert not asked or row.state in {State.RUNNING, State.CANCELLED}
            assert row.retries <= row.max_retries

    @invariant()
    def what_is_final_stays(self) -> None:
        final = {
            row["id"]: row for row in Task.objects.filter(state__in=FINAL).values()
        }
        for pk, row in self.ended.items():
            assert final.get(pk) == row
        self.ended = final


@pytest.mark.django_db
def test_whatever_comes_in_whatever_order_the_rows_stay_true(
    alice: User, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", clock.now)  # put back after the machine's clocks
    monkeypatch.setattr(Life, "messages", messages, raising=False)
    monkeypatch.setattr(Life, "owner", alice, raising=False)
    monkeypatch.setattr(Life, "reached", set(), raising=False)
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=50,
            deadline=None,
            derandomize="COMPASS_TEST_EXAMPLES" not in os.environ,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    verbs = {"start", *USERS, *ENDS}
    # Not in vain: nearly every verb was heard somewhere and too late elsewhere.
    missed = {(verb, way) for verb in verbs for way in (True, False)} - Life.reached
    assert len(missed) <= 8, missed
