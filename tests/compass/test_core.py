from __future__ import annotations

import os
import threading
from collections.abc import Collection

import pytest

from compass import core
from compass.core import Core

ALL = [0, 1]


class Machine:
    """Two cores; `go` is one second of what others and this process compute on them."""

    def __init__(self) -> None:
        self.now = self.mine = 0.0
        self.busy = {0: 0.0, 1: 0.0}
        self.settled: list[list[int]] = []
        self.core = Core(
            ALL, settle=self.settle, busy=lambda: dict(self.busy),
            own=lambda: self.mine, monotonic=lambda: self.now,
        )  # fmt: skip

    def settle(self, cores: Collection[int]) -> None:
        self.settled.append(sorted(cores))

    def go(self, others: tuple[float, float], mine: float) -> None:
        self.now += 1.0
        self.mine += mine
        for n in self.busy:
            here = self.core.current
            share = mine / 2 if here is None else mine * (n == here)
            self.busy[n] += others[n] + share  # of those that are there
        self.core.step()


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_process_with_little_to_do_is_left_alone(machine: Machine) -> None:
    machine.go((0.0, 0.0), mine=0.1)
    assert machine.settled == []


def test_a_busy_process_settles_on_the_core_that_others_use_least(
    machine: Machine,
) -> None:
    for _ in range(3):
        machine.go((0.5, 0.1), mine=0.9)
    assert machine.settled == [[1]]


def test_it_moves_away_from_a_training_that_is_put_on_its_core(
    machine: Machine,
) -> None:
    machine.go((0.0, 0.1), mine=0.9)
    machine.go((0.5, 0.0), mine=0.5)  # half of the core each
    machine.go((1.0, 0.0), mine=0.9)
    assert machine.settled == [[0], [1]]


def test_where_all_cores_are_used_the_kernel_chooses(machine: Machine) -> None:
    machine.go((0.75, 0.75), mine=0.5)
    assert machine.settled == []


def test_it_is_let_go_when_it_has_little_to_do_again(machine: Machine) -> None:
    machine.go((0.0, 0.1), mine=0.9)
    machine.go((0.0, 0.0), mine=0.0)
    assert machine.settled == [[0], ALL]


def test_it_does_not_move_for_little(machine: Machine) -> None:
    machine.go((0.0, 0.1), mine=0.9)
    machine.go((0.2, 0.0), mine=0.8)
    assert machine.settled == [[0]]


def test_all_threads_are_settled() -> None:
    before = os.sched_getaffinity(0)
    found: list[set[int]] = []
    begun, settled = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        assert settled.wait(20)
        found.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(20)
    try:
        core.settle({min(before)})
        settled.set()
        thread.join(20)
        assert found == [{min(before)}]
    finally:
        core.settle(before)
    assert os.sched_getaffinity(0) == before


def test_a_core_that_goes_away_is_left_to_the_kernel(machine: Machine) -> None:
    machine.go((0.0, 0.1), mine=0.9)
    del machine.busy[0]
    machine.go((0.0, 0.0), mine=0.9)
    assert machine.settled == [[0], ALL]


def test_where_the_kernel_tells_nothing_nobody_is_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> dict[int, float]:
        raise OSError("no such file")

    monkeypatch.setattr(core, "busy_seconds", fail)
    monkeypatch.setattr(core, "ALLOWED", frozenset(ALL))
    before = threading.active_count()
    core.watch()
    assert threading.active_count() == before
