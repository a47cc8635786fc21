"""More processes for one batch: when they come, what they take, and when they leave."""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from inference import batches, hands, work
from inference.bulk import Batch, ByModel
from inference.cache import Facts, ModelCache
from inference.claims import Claims
from inference.ending import Ended
from inference.hand import ALIVE, LOOK_EVERY, Lent, Look
from inference.hands import Hands
from inference.shards import write_items
from inference.spread import Spread
from inference.work import Work
from registry.models import ModelVersion, Node, Task
from tests.inference.hands_run import FIRST

CLAIMS = Claims(3, 1, "here")
ENOUGH = 60.0  # seconds of work


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Ticking(Clock):
    """It goes on while nobody looks, as a wait by it must end."""

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine, theirs:
        yield mine, theirs


@pytest.mark.parametrize(("share", "stays"), [(0.9, True), (0.5, True), (0.3, False)])
def test_a_hand_leaves_when_others_need_its_core(
    line: tuple[socket.socket, socket.socket], share: float, stays: bool
) -> None:
    clock, computed = Clock(), Clock()
    look = Look(line[1], monotonic=clock, computed=computed)
    look()
    clock.now, computed.now = LOOK_EVERY, LOOK_EVERY * share
    if stays:
        look()
    else:
        with pytest.raises(Ended):
            look()
    assert line[0].recv(64) == ALIVE


def test_a_hand_that_nobody_hears_is_not_held_up(
    line: tuple[socket.socket, socket.socket],
) -> None:
    clock = Clock()
    look = Look(line[1], monotonic=clock, computed=clock)
    for _ in range(5000):
        clock.now += LOOK_EVERY
        look()


def test_a_hand_leaves_when_the_worker_lets_it_go(
    line: tuple[socket.socket, socket.socket],
) -> None:
    look = Look(line[1])
    look()
    line[0].shutdown(socket.SHUT_WR)
    with pytest.raises(Ended):
        look()


@pytest.fixture
def begun(version: ModelVersion, inference_node: Node, alice: User) -> Claims:
    """A batch of 320 numbers in ten shards."""
    path, count = write_items({"x": FIRST + n} for n in range(320))
    task = batches.accept(version, "inputs", path, count, user=alice)
    task.assign(inference_node)
    task.start(inference_node)
    claims = Claims(task.pk, task.attempt, inference_node.incarnation)
    batch = Batch.of(task)
    batch.source.prepare(batch.size, lambda: None)
    claims.divide(batch.shards)
    return claims


def test_what_a_hand_leaves_undone_is_freed_once_the_worker_holds_nothing_more(
    begun: Claims,
) -> None:
    lent = Lent(begun.task, begun.attempt, begun.holder, backwards=True)
    assert begun.take(4, {}) == [0, 1, 2, 3]
    assert lent.take(4, {}) == [6, 7, 8, 9]
    lent.give_back({9: 1})
    assert begun.held() == 7
    assert begun.take(10, {0: 0, 1: 0, 2: 0, 3: 0}) == [4, 5]
    assert (begun.done(), begun.failed()) == (5, 1)
    begun.give_back({4: 0, 5: 0})
    assert begun.take(10, {}) == [6, 7, 8]


@pytest.mark.parametrize("free", [1, 2, 4])
def test_a_hand_is_asked_for_each_core_that_is_free(
    begun: Claims, cache: ModelCache, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr(Spread, "__call__", lambda self: free)
    monkeypatch.setattr(work, "QUICK", math.inf)  # also on a machine that is busy
    asked: list[tuple[int, float]] = []
    work_with(begun, cache, lambda *call: bool(asked.append(call)))
    assert {most for most, _ in asked} == ({free - 1} if free > 1 else set())
    assert not asked or asked[-1][1] == 0.0 < asked[0][1]


def test_no_hands_are_asked_for_a_network_that_is_not_quick(
    begun: Claims, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its passes take the free cores themselves."""
    monkeypatch.setattr(Spread, "__call__", lambda self: 2)
    monkeypatch.setattr(work, "QUICK", 0.0)
    work_with(begun, cache, lambda *_: pytest.fail("asked"))


def work_with(
    begun: Claims, cache: ModelCache, hands: Callable[[int, float], bool]
) -> None:
    task = Task.objects.get(pk=begun.task)
    with cache.use(task.params["version_id"]) as (model, facts):
        answer = ByModel(Batch.of(task), model, facts)
        Work(answer.batch, begun, look=lambda: None, hands=hands).run(answer)
    assert begun.done() == 10


class Spares:
    """Hands out lines of which the test has the other ends."""

    def __init__(self, most: int = 99) -> None:
        self.lines: list[socket.socket] = []
        self.orders: list[Any] = []
        self.most = most

    def hand(self, order: Any) -> socket.socket | None:
        if len(self.lines) >= self.most:
            return None
        self.orders.append(order)
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lines.append(theirs)
        return mine

    def leave(self) -> None:
        for one in self.lines:
            one.close()


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = settings.ENVIRONMENT
    fields = {**environment.__dict__, "batch_processes": 99}
    monkeypatch.setattr(settings, "ENVIRONMENT", type(environment)(**fields))
    monkeypatch.setattr(hands, "ENDS_WITHIN", 0.01)


def made(
    spare: Any,
    *,
    size: int = 1000,
    loaded: int = 0,
    free: int = 2**40,
    needs_torch: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Hands:
    facts = Facts(1, "tiny:1", "tiny", "d", size, {})
    return Hands(
        spare,
        CLAIMS,
        facts,
        model_size=loaded,
        needs_torch=needs_torch,
        free=lambda: free,
        monotonic=clock,
    )


def test_more_hands_come_once_it_is_seen_what_the_others_compute(many: None) -> None:
    spare, clock = Spares(), Ticking()
    found = made(spare, clock=clock)
    assert found.have(2, ENOUGH)
    order = {"task": 3, "attempt": 1, "holder": "here", "version": 1}
    assert spare.orders == [order] * 2
    assert found.have(2, ENOUGH)
    assert len(spare.orders) == 2
    clock.now += hands.SEEN_AFTER
    assert found.have(1, ENOUGH)
    assert len(spare.orders) == 3
    clock.now += hands.SEEN_AFTER
    assert found.have(1000, ENOUGH)
    assert len(spare.orders) == hands.MOST
    spare.leave()
    found.wait(lambda: True)


def test_a_hand_that_left_is_replaced_after_a_while(many: None) -> None:
    spare, clock = Spares(), Ticking()
    found = made(spare, clock=clock)
    found.have(1, ENOUGH)
    spare.leave()
    clock.now += hands.SEEN_AFTER
    assert not found.have(1, ENOUGH)
    clock.now += hands.AGAIN_AFTER
    assert found.have(1, ENOUGH)
    assert len(spare.orders) == 2
    spare.leave()
    found.wait(lambda: True)


def test_a_hand_that_never_begins_is_replaced(
    many: None, sleeper: subprocess.Popen[bytes]
) -> None:
    spare, clock = Spares(), Ticking()
    found = made(spare, clock=clock)
    found.have(2, ENOUGH)
    spare.lines[1].send(str(sleeper.pid).encode())
    clock.now += 0.9 * hands.NEVER_BEGINS
    assert found.have(0, ENOUGH)
    assert [one.pid for one in found._hands] == [0, sleeper.pid]
    clock.now += 0.2 * hands.NEVER_BEGINS
    assert found.have(1, ENOUGH)
    assert [one.pid for one in found._hands] == [sleeper.pid, 0]
    assert len(spare.orders) == 3
    spare.leave()
    found.wait(lambda: True)


@pytest.mark.parametrize(
    "found",
    [
        lambda: made(None),
        lambda: made(Spares(), size=hands.LARGEST + 1),
        lambda: made(Spares(), loaded=hands.LARGEST + 1),
        lambda: made(Spares(), free=hands.HAND),
        lambda: made(Spares(most=0)),
    ],
    ids=["no spare", "large files", "a large model", "little memory", "a dead spare"],
)
def test_no_hands_come(found: Callable[[], Hands], many: None) -> None:
    hands = found()
    assert not hands.have(2, ENOUGH)
    hands.wait(lambda: pytest.fail("nobody is waited for"))


@pytest.mark.parametrize(
    ("needs_torch", "least"), [(False, hands.WORTH), (True, hands.WORTH_TORCH)]
)
def test_hands_come_where_more_is_left_than_they_need_to_begin(
    many: None, needs_torch: bool, least: float
) -> None:
    spare = Spares()
    found = made(spare, needs_torch=needs_torch)
    assert not found.have(1, 0.9 * least)
    assert spare.orders == []
    assert found.have(1, least)
    spare.leave()
    found.wait(lambda: True)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def test_hands_that_do_not_leave_are_killed(
    many: None, sleeper: subprocess.Popen[bytes]
) -> None:
    spare = Spares()
    found = made(spare)
    found.have(1, ENOUGH)
    spare.lines[0].send(str(sleeper.pid).encode())
    found.end()
    assert sleeper.wait(20) == -signal.SIGKILL
    spare.leave()


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_hand_is_waited_for_while_it_gives_signs_of_life(
    many: None, sleeper: subprocess.Popen[bytes], is_silent: bool
) -> None:
    spare, clock = Spares(), Ticking()
    found = made(spare, clock=clock)
    found.have(1, ENOUGH)
    line, looks = spare.lines[0], list[float]()
    line.send(str(sleeper.pid).encode())

    def are_wanted() -> bool:
        looks.append(clock.now)
        clock.now += 0.4 * hands.STANDS_STILL
        if len(looks) == 20:
            line.close()
        elif not is_silent and len(looks) < 20:
            line.send(ALIVE)
        return True

    found.wait(are_wanted)
    assert (len(looks) < 6) is is_silent
    if is_silent:
        assert sleeper.wait(20) == -signal.SIGKILL
    else:
        assert sleeper.poll() is None
    spare.leave()


def test_hands_that_hold_nothing_are_not_waited_for(many: None) -> None:
    spare = Spares()
    found = made(spare)
    found.have(2, ENOUGH)
    found.wait(lambda: False)
    for line in spare.lines:
        assert line.recv(64) == b""
    spare.leave()
