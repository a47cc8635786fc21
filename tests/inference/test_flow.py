from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from inference import spread as spread_module
from inference.chunk import Chunk
from inference.flow import Flow
from inference.spread import MOST, Spread, busy_here


class Ended(Exception):
    pass


def chunk(name: Any) -> Chunk:
    return Chunk([name], [None], [name])


@pytest.fixture
def flow() -> Iterator[Callable[..., Flow]]:
    made: list[Flow] = []

    def make(
        predict: Any = lambda one: one.raws,
        *,
        width: int = 1,
        most: int = 4,
        look: Callable[[], object] = lambda: None,
    ) -> Flow:
        made.append(Flow(predict, width=lambda: width, most=most, look=look))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_answers_come_in_the_order_of_the_chunks_whichever_is_first(
    flow: Callable[..., Flow],
) -> None:
    second = threading.Event()

    def predict(one: Chunk) -> Any:
        if one.raws == [0]:
            assert second.wait(20)  # both are predicted at once
        elif one.raws == [1]:
            second.set()
        return one.raws

    both, told = flow(predict, width=2), list[Any]()
    for n in range(4):
        both.push(chunk(n), told.append)
        if n % 2:
            both.behind(lambda: told.append("end"))
    both.drain()
    assert told == [[0], [1], "end", [2], [3], "end"]
    assert both.is_empty


def test_what_stands_behind_nothing_is_called_at_once(
    flow: Callable[..., Flow],
) -> None:
    told: list[str] = []
    flow().behind(lambda: told.append("end"))
    assert told == ["end"]


def test_a_failed_pass_lets_nothing_behind_it_through(
    flow: Callable[..., Flow],
) -> None:
    def predict(one: Chunk) -> Any:
        if one.raws == [0]:
            raise Ended
        return one.raws

    one, told = flow(predict, width=3), list[Any]()
    for n in range(3):
        one.push(chunk(n), told.append)
    one.behind(lambda: told.append("end"))
    with pytest.raises(Ended):
        one.drain()
    one.salvage(5.0)
    assert told == []


def test_answers_that_cannot_be_taken_let_nothing_behind_them_through(
    flow: Callable[..., Flow],
) -> None:
    def refuse(answers: Any) -> None:
        raise Ended

    one, told = flow(width=2), list[Any]()
    one.push(chunk(0), refuse)
    one.push(chunk(1), told.append)
    with pytest.raises(Ended):
        one.drain()
    one.salvage(5.0)
    assert told == []


def test_a_wish_ends_the_wait_and_loses_no_chunk_of_what_is_settled(
    flow: Callable[..., Flow],
) -> None:
    gate = threading.Event()

    def predict(one: Chunk) -> Any:
        assert gate.wait(20)
        return one.raws

    def look() -> None:
        gate.set()
        raise Ended

    one, told = flow(predict, look=look), list[Any]()
    one.push(chunk(0), told.append)
    with pytest.raises(Ended):
        one.push(chunk(1), told.append)
    one.behind(lambda: told.append("end"))
    one.salvage(20.0)
    assert told == [[0], [1], "end"]


def test_what_does_not_come_in_time_is_left(flow: Callable[..., Flow]) -> None:
    gate = threading.Event()
    one, told = flow(lambda one: gate.wait(20), width=1), list[Any]()
    one.push(chunk(0), told.append)
    one.salvage(0.0)
    gate.set()
    assert told == []


@pytest.mark.parametrize("width", [1, 3])
def test_no_more_passes_than_that_are_computed_at_once(
    flow: Callable[..., Flow], width: int
) -> None:
    lock, running, seen = threading.Lock(), [0], list[int]()
    gate = threading.Event()

    def predict(one: Chunk) -> Any:
        with lock:
            running[0] += 1
            seen.append(running[0])
        gate.wait(0.02)  # others would begin meanwhile
        with lock:
            running[0] -= 1
        return one.raws

    some, told = flow(predict, width=width, most=8), list[Any]()
    for n in range(12):
        some.push(chunk(n), told.append)
    some.drain()
    assert told == [[n] for n in range(12)]
    assert max(seen) <= width


def test_what_waits_for_its_turn_ends_with_the_flow(flow: Callable[..., Flow]) -> None:
    gate = threading.Event()
    begun: list[Any] = []

    def predict(one: Chunk) -> Any:
        begun.append(one.raws)
        assert gate.wait(20)
        return one.raws

    def look() -> None:
        raise Ended

    one = flow(predict, look=look)
    one.push(chunk(0), begun.append)
    with pytest.raises(Ended):
        one.push(chunk(1), begun.append)
    one.close()
    gate.set()
    one._pool.shutdown(wait=True)
    assert begun == [[0]]


class Machine:
    """Its clock, and the CPU seconds of others and of this process."""

    def __init__(self) -> None:
        self.now = self.others = self.mine = 0.0

    def spread(self, cores: int) -> Spread:
        return Spread(
            cores,
            machine=cores,
            busy=lambda: self.others + self.mine,
            own=lambda: self.mine,
            monotonic=lambda: self.now,
        )

    def go(self, others: float, mine: float = 1.0) -> None:
        self.now += 1.0
        self.others += others
        self.mine += mine


@pytest.mark.parametrize(
    ("cores", "others", "width"),
    [(1, 0.0, 1), (2, 0.1, 2), (2, 1.0, 1), (2, 2.0, 1), (8, 3.0, 5), (64, 0.0, MOST)],
)
def test_there_are_as_many_passes_as_cores_that_nobody_else_uses(
    cores: int, others: float, width: int
) -> None:
    machine = Machine()
    spread = machine.spread(cores)
    assert spread() == 1
    machine.go(others, mine=min(1.7, cores))
    assert spread() == width


def test_a_core_that_another_process_takes_is_given_up() -> None:
    machine = Machine()
    spread = machine.spread(4)
    for others, width in ((0.0, 4), (2.0, 2), (4.0, 1), (0.5, 3)):
        machine.go(others)
        assert spread() == width


def test_between_two_looks_nothing_changes() -> None:
    machine = Machine()
    spread = machine.spread(4)
    machine.now += 0.09
    assert spread() == 1
    machine.now += 0.02  # the first comes early
    assert spread() == 4
    machine.now, machine.others = machine.now + 0.2, 0.2
    assert spread() == 4
    machine.now, machine.others = machine.now + 0.05, 0.25
    assert spread() == 3


def test_the_machine_tells_what_it_computed() -> None:
    before = busy_here()
    assert 0.0 < before <= busy_here()


def test_where_the_machine_tells_nothing_there_is_one_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> dict[int, float]:
        raise OSError("no such file")

    machine = Machine()
    monkeypatch.setattr(spread_module, "busy_seconds", fail)
    monkeypatch.setattr(spread_module, "ALLOWED", frozenset({0, 1}))
    monkeypatch.setattr(
        spread_module, "time", SimpleNamespace(monotonic=lambda: machine.now)
    )
    found = Spread(2, own=lambda: machine.mine, monotonic=lambda: machine.now)
    machine.go(0.0, mine=0.5)
    assert found() == 1


def test_others_beside_the_share_of_a_process_leave_it_its_share() -> None:
    machine = Machine()
    spread = Spread(
        2, machine=8, own=lambda: machine.mine,
        busy=lambda: machine.others + machine.mine, monotonic=lambda: machine.now,
    )  # fmt: skip
    machine.go(others=5.0)
    assert spread() == 2
