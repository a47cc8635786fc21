"""Arrays, dependencies, limits, reservations, lanes and GPUs in any order, with all their rules."""

from __future__ import annotations

import datetime
import os
from collections import Counter
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

from registry import arrays, cancellation, clock
from registry.maintenance import rescue
from registry.models import (
    Attempt,
    Condition,
    Lane,
    Node,
    Reservation,
    Stale,
    Task,
    UserLimit,
)
from registry.resources import GIB, Resources
from registry.scheduler import dispatch
from registry.states import FINAL, PLACED, State
from registry.submission import accept
from tests.conftest import Clock, Messages, make_node

EXAMPLES = int(os.environ.get("COMPASS_TEST_EXAMPLES", "12"))
anyone = st.integers(0, 10**6)
GPUS = [{"index": n, "memory": 16 * GIB} for n in (0, 1, 3)]
BUSY = "process 4711 (python), not of Compass"


class Queue(RuleBasedStateMachine):
    messages: Messages
    users: list[User]
    seen: set[str]  # what the examples came to

    def __init__(self) -> None:
        super().__init__()
        self.time = Clock(datetime.datetime(2026, 1, 5, 9, 0, tzinfo=datetime.UTC))
        clock.now = self.time
        self.messages.sent.clear()
        self.nodes: list[Node] = []
        self.tasks: list[int] = []  # those that a user asked for; of arrays the head
        self.names = 0
        self.ended: dict[int, dict[str, Any]] = {}
        self.example = transaction.atomic()
        self.example.__enter__()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    def pick(self, things: list[Any], number: int) -> Any:
        return things[-1 - number % len(things)]

    def running(self) -> list[Task]:
        return list(
            Task.objects.filter(state__in=PLACED, array_size=None).order_by("pk")
        )

    @initialize()
    def begin(self) -> None:
        self.nodes = [
            make_node("cpu@one", cpus=2),
            make_node("cpu@two", cpus=4),
            make_node("gpu@one", cpus=4, gpus=GPUS),
        ]

    @rule(seconds=st.sampled_from([1, 20, 61, 700]))
    def time_passes(self, seconds: int) -> None:
        self.time.forward(seconds=seconds)
        for node in self.nodes:
            assert node.beat()
        Task.objects.placed().update(beat_at=self.time())

    # What users ask

    @rule(
        user=anyone,
        cpus=st.integers(1, 4),
        gpus=st.integers(0, 3),
        limit=st.sampled_from([None, 60, 600]),
        retries=st.integers(0, 1),
        array=st.sampled_from([None, None, "0-3", "0-4%2", "1,5%1"]),
        on=st.lists(st.tuples(st.sampled_from(list(Condition)), anyone), max_size=2),
    )
    def submit(
        self,
        user: int,
        cpus: int,
        gpus: int,
        limit: int | None,
        retries: int,
        array: str | None,
        on: list[tuple[Condition, int]],
    ) -> None:
        wanted = {
            (condition, self.pick(self.tasks, number))
            for condition, number in (on if self.tasks else [])
        }
        rows = Task.objects.in_bulk([pk for _, pk in wanted])
        task = accept(
            kind="script",
            name="one",
            owner=self.pick(self.users, user),
            lane="gpu" if gpus else "cpu",
            cpus=cpus,
            gpus=gpus,
            memory=GIB,
            time_limit=limit,
            max_retries=retries,
            array=arrays.parse(array) if array else None,
            depends_on=[(condition, rows[pk]) for condition, pk in sorted(wanted)],
        )
        self.tasks.append(task.pk)
        self.seen |= {"array"} if array else {"task"}

    @precondition(lambda self: self.tasks)
    @rule(number=anyone)
    def cancel(self, number: int) -> None:
        try:
            cancellation.cancel(Task.objects.get(pk=self.pick(self.tasks, number)))
        except Stale:
            return
        self.seen.add("cancel")

    # What operators say

    @rule(
        user=anyone,
        tasks=st.sampled_from([None, 1, 2]),
        cpus=st.sampled_from([None, 3]),
    )
    def limit_user(self, user: int, tasks: int | None, cpus: int | None) -> None:
        owner = self.pick(self.users, user)
        UserLimit.objects.update_or_create(
            user=owner, defaults={"tasks": tasks, "cpus": cpus}
        )

    @rule(lane=st.sampled_from(["cpu", "gpu"]), pauses=st.booleans())
    def speak_of_lane(self, lane: str, pauses: bool) -> None:
        at = self.time() if pauses else None
        Lane.objects.update_or_create(name=lane, defaults={"paused_at": at})

    @rule(
        node=anyone,
        user=anyone,
        after=st.sampled_from([0, 300]),
        lasts=st.sampled_from([60, 600]),
    )
    def reserve(self, node: int, user: int, after: int, lasts: int) -> None:
        where = self.pick(self.nodes, node)
        starts = self.time() + datetime.timedelta(seconds=after)
        self.names += 1
        booked = Reservation.objects.create(
            name=f"r{self.names}",
            lane=where.lane,
            node=where,
            starts_at=starts,
            ends_at=starts + datetime.timedelta(seconds=lasts),
        )
        booked.users.add(self.pick(self.users, user))

    @rule(number=st.integers(0, 2), is_busy=st.booleans())
    def somebody_uses_a_gpu(self, number: int, is_busy: bool) -> None:
        gpus = [dict(one) for one in GPUS]
        if is_busy:
            gpus[number]["busy"] = BUSY
        Node.objects.filter(name="gpu@one").update(gpus=gpus)

    @rule()
    def everything_ends_and_nothing_is_ruled(self) -> None:
        for model in (Reservation, UserLimit, Lane):
            model.objects.all().delete()
        while tasks := self.running():
            for _ in tasks:
                self.worker_speaks(0, "complete")
        self.dispatch()

    # What the control plane and the workers do

    @rule()
    def dispatch(self) -> None:
        before = Counter(task.owner_id for task in self.running())
        open_ = self.could_start()
        plan = dispatch()
        for pk in plan.places:
            self.check_placed(Task.objects.get(pk=pk), before)
        if open_:
            assert plan.places, "the nodes are free and nothing keeps these from them"
            self.seen.add("could start")
        for task in Task.objects.in_line(self.time()).filter(array=None):
            assert task.waiting_for, "whoever waits is told why"

    def could_start(self) -> bool:
        """Whether a task fits, with all nodes empty and no rule of an operator in its way."""
        if self.running() or Reservation.objects.exists() or UserLimit.objects.exists():
            return False
        if Lane.objects.exclude(paused_at=None).exists():
            return False
        line = list(Task.objects.in_line(self.time()).filter(lane="cpu"))
        return any(task.cpus <= 4 for task in line)

    def check_placed(self, task: Task, before: Counter[int]) -> None:
        assert not Lane.objects.filter(name=task.lane).exclude(paused_at=None).exists()
        assert not task.dependencies.exclude(met=True).exists()
        if task.array is not None:
            assert not task.array.dependencies.exclude(met=True).exists()
        now = self.time()
        for booked in Reservation.objects.filter(
            node=task.node, starts_at__lte=now, ends_at__gt=now
        ):
            assert booked.users.filter(pk=task.owner_id).exists()
            self.seen.add("in a reservation")
        busy = (
            {g["index"] for g in task.node.gpus if g.get("busy")}
            if task.node
            else set()
        )
        live = task.attempts.get(finished_at=None)
        assert len(live.gpus) == task.gpus
        assert not busy & set(live.gpus)
        limit = UserLimit.objects.filter(user=task.owner_id).first()
        mine = [one for one in self.running() if one.owner_id == task.owner_id]
        if limit is not None and limit.tasks is not None:
            assert len(mine) <= max(limit.tasks, before[task.owner_id])
            self.seen.add("within a limit")
        if limit is not None and limit.cpus is not None:
            assert sum(one.cpus for one in mine) <= limit.cpus

    @rule(number=anyone, how=st.sampled_from(["start", "complete", "complete", "fail"]))
    def worker_speaks(self, number: int, how: str) -> None:
        if not (tasks := self.running()):
            return
        task = self.pick(tasks, number)
        if task.state == State.ASSIGNED:
            assert task.node is not None
            task.start(task.node)
        if task.cancel_requested_at:
            task.cancel()
        elif how == "complete":
            task.complete({})
        elif how == "fail":
            task.fail("exit_status", "It ended with exit code 3.")

    @rule()
    def settle(self) -> None:
        """A pass and a look of the rescue bring everything up to date."""
        rescue()
        dispatch()
        for head in Task.objects.filter(array_size__isnull=False):
            ends = {one.state in FINAL for one in head.elements.all()}
            assert (head.state in FINAL) == (ends == {True})
        for task in Task.objects.filter(array=None):
            for one in task.dependencies.filter(on__state__in=FINAL):
                assert one.on is not None
                assert one.met == Condition(one.condition).is_met_by(one.on.state)
            if task.dependencies.filter(met=False).exists():
                assert task.state in FINAL
                if task.reason == "dependency_failed":
                    self.seen.add("dependency_failed")

    # What holds after every step

    @invariant()
    def no_gpu_is_held_twice_and_no_node_overcommitted(self) -> None:
        for node in Node.objects.all():
            live = Attempt.objects.filter(node=node, finished_at=None)
            held = [index for one in live for index in one.gpus]
            assert len(held) == len(set(held))
            assert set(held) <= {gpu["index"] for gpu in node.gpus}
            free = node.capacity
            for task in Task.objects.placed().filter(node=node):
                free = free.minus(task.resources)
            assert Resources(0, 0, 0).fits(free)

    @invariant()
    def no_array_goes_over_its_own_limit(self) -> None:
        for head in Task.objects.filter(array_size__isnull=False):
            placed = head.elements.filter(state__in=PLACED).count()
            assert placed <= (head.array_limit or head.array_size or 0)

    @invariant()
    def who_depends_on_what_has_not_ended_has_not_begun(self) -> None:
        for task in Task.objects.filter(held=True):
            assert task.state in {State.PENDING, *FINAL}
            assert not task.attempts.exists()

    @invariant()
    def what_is_final_stays(self) -> None:
        final = {r["id"]: r for r in Task.objects.filter(state__in=FINAL).values()}
        for pk, row in self.ended.items():
            assert final.get(pk) == row
        self.ended = final


@pytest.mark.django_db
def test_whatever_is_asked_and_ruled_every_rule_is_kept(
    alice: User, bob: User, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", clock.now)  # put back after the machine's clocks
    monkeypatch.setattr(Queue, "messages", messages, raising=False)
    monkeypatch.setattr(Queue, "users", [alice, bob], raising=False)
    monkeypatch.setattr(Queue, "seen", set(), raising=False)
    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=50,
            deadline=None,
            derandomize="COMPASS_TEST_EXAMPLES" not in os.environ,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert {"array", "task", "cancel", "could start"} <= Queue.seen
