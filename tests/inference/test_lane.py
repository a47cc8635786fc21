"""Batches without a timer, bounded lines, deadlines, and workers that die or fall silent."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inference import crew, frames, lane, line, peer, requests, stop
from inference.frames import Kind, Status
from inference.lane import Lane
from inference.line import Line
from inference.links import Place
from inference.requests import Request
from inference.routes import Found, draw
from registry.errors import Problem

QUICK, SLOW = Found(1, "quick", 1, 4), Found(2, "slow", 1, 4)


class Worker:
    """A line with a model that doubles; `gate` holds up the slow one, `deadly` items kill it."""

    def __init__(self, name: str, folder: Path, versions: tuple[int, ...] = ()) -> None:
        self.name, self.versions = name, versions
        self.gate, self.batches = threading.Event(), list[list[Any]]()
        self.deadly: Any = object()
        self.deleted: set[int] = set()
        self.when_asked_for_deleted: Callable[[], object] = lambda: None
        self.line = Line(self.predict, self.tell)
        path = folder / f"{name}.sock"
        self.line.open(path)
        self.place = Place(name, "1", str(path), "", 0)
        self.is_frozen = threading.Event()

    def tell(self) -> dict[str, Any]:
        if self.is_frozen.is_set():
            self.gate.wait(20)
        return {"name": self.name, "versions": list(self.versions)}

    def predict(self, version: int, items: Any) -> list[dict[str, Any]]:
        self.batches.append([version, *items])
        if version == SLOW.version:
            assert self.gate.wait(20)
        if self.deadly in items:
            self.die()
        if version in self.deleted:
            self.when_asked_for_deleted()
            raise Problem("unknown_model", "This model version was deleted.")
        return [{"y": 2 * one} for one in items]

    def die(self) -> None:
        for one in list(self.line._callers):
            one.link.shutdown(2)

    def end(self) -> None:
        self.gate.set()
        self.line.close()


class Known:
    """Lookups without a database."""

    def __init__(self) -> None:
        self.addresses = {"quick": QUICK, "slow": SLOW}
        self.workers: list[Worker] = []
        self.is_up = True
        self.is_written_always = False

    def known(self, address: str) -> Found | None:
        return None if self.is_written_always else self.addresses.get(address)

    async def find(self, address: str) -> Found:
        await asyncio.sleep(0)
        if address not in self.addresses:
            raise Problem("unknown_model", f"There is no model {address}.")
        return self.addresses[address]

    def distrust(self) -> None:
        self.is_written_always = True

    async def places(self) -> tuple[list[Place], bool]:
        return [one.place for one in self.workers], self.is_up


class Room:
    def __init__(self, folder: Path) -> None:
        self.folder, self.known = folder, Known()

    def worker(self, name: str, *versions: int) -> Worker:
        one = Worker(name, self.folder, versions)
        self.known.workers.append(one)
        return one

    def run(self, play: Callable[[Lane], Awaitable[None]]) -> None:
        async def serve() -> None:
            one = Lane(self.known, timeout=5)
            one.begin()
            await until(lambda: len(one._crew.peers) == len(self.known.workers))
            try:
                await asyncio.wait_for(play(one), 20)
            finally:
                one.close()

        asyncio.run(serve())


async def until(done: Callable[[], Any]) -> None:
    while not done():
        await asyncio.sleep(0.005)


class Asked:
    """A request, and what came of it."""

    def __init__(
        self,
        one: Lane,
        address: str,
        item: Any,
        seconds: float = 20,
        key: str | None = None,
    ) -> None:
        self.answer: Any = asyncio.get_running_loop().create_future()
        until = time.monotonic() + seconds
        items = json.dumps([item]).encode()
        self.request = Request(address, items, until, self.end, key)
        one.ask(self.request)

    def end(self, status: int, content: bytes, found: Found | None) -> None:
        self.answer.set_result((status, json.loads(content) if content else None))

    async def outputs(self) -> Any:
        status, content = await self.answer
        assert status == Status.OUTPUTS, content
        return content

    async def code(self) -> Any:
        status, content = await self.answer
        assert status == Status.PROBLEM, content
        return content["code"]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    monkeypatch.setattr(crew, "DISCOVER_EVERY", 0.05)
    monkeypatch.setattr(lane, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(line, "at_once", lambda: 2)
    one = Room(tmp_path)
    yield one
    for worker in one.known.workers:
        worker.end()


async def two_batches(one: Lane, worker: Worker) -> list[Asked]:
    """As many as are out at once, of one request each."""
    first: list[Asked] = []
    for n in range(2):
        first.append(Asked(one, "slow", n))
        await until(lambda: len(worker.batches) == len(first))
    return first


def test_what_came_while_batches_were_out_goes_in_the_next(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "AIM", 0.0)
    worker = room.worker("one")

    async def play(one: Lane) -> None:
        first = await two_batches(one, worker)
        rest = [Asked(one, "slow", n) for n in range(2, 12)]
        worker.gate.set()
        found = [await asked.outputs() for asked in first + rest]
        assert found == [[{"y": 2 * n}] for n in range(12)]

    room.run(play)
    taken = [batch[1:] for batch in worker.batches]
    assert sorted(taken[:2]) == [[0], [1]]
    assert sorted(len(batch) for batch in taken[2:]) == [2, 4, 4]


@pytest.mark.parametrize("is_short", [True, False])
def test_what_comes_at_once_goes_together_if_it_does_not_take_long(
    room: Room, monkeypatch: pytest.MonkeyPatch, is_short: bool
) -> None:
    worker = room.worker("one")
    monkeypatch.setattr(lane, "SHORT", 1.0 if is_short else -1.0)

    async def play(one: Lane) -> None:
        some = [Asked(one, "slow", n) for n in range(4)]
        await until(lambda: len(worker.batches) == (1 if is_short else 2))
        worker.gate.set()
        assert [await asked.outputs() for asked in some] == [
            [{"y": 2 * n}] for n in range(4)
        ]

    room.run(play)
    taken = sorted(batch[1:] for batch in worker.batches)
    assert taken == ([[0, 1, 2, 3]] if is_short else [[0], [1], [2, 3]])


def test_while_a_batch_is_out_the_next_waits_for_as_long_as_each_turn_brings_more(
    room: Room,
) -> None:
    worker = room.worker("one")

    async def play(one: Lane) -> None:
        some = [Asked(one, "slow", 0)]
        await until(lambda: worker.batches)
        for n in range(1, 5):
            some.append(Asked(one, "slow", n))
            await asyncio.sleep(0)
        assert one._queues["slow"].flights == 1
        await until(lambda: len(worker.batches) == 2)
        assert [batch[1:] for batch in worker.batches] == [[0], [1, 2, 3, 4]]
        worker.gate.set()
        for each in some:
            await each.outputs()

    room.run(play)


def test_a_batch_that_is_full_is_not_waited_with(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = room.worker("one")
    monkeypatch.setattr(lane, "LARGEST", 3)

    async def play(one: Lane) -> None:
        some = [Asked(one, "slow", n) for n in range(3)]
        assert one._queues["slow"].flights == 1
        await until(lambda: worker.batches)
        assert worker.batches == [[SLOW.version, 0, 1, 2]]
        worker.gate.set()
        for each in some:
            await each.outputs()

    room.run(play)


def test_a_slow_model_does_not_starve_a_quick_one(room: Room) -> None:
    worker = room.worker("one")

    async def play(one: Lane) -> None:
        slow = [Asked(one, "slow", n) for n in range(20)]
        for n in range(20):
            assert await Asked(one, "quick", n).outputs() == [{"y": 2 * n}]
        worker.gate.set()
        for n, asked in enumerate(slow):
            assert await asked.outputs() == [{"y": 2 * n}]

    room.run(play)


def test_of_two_addresses_of_one_version_none_waits_for_ever(room: Room) -> None:
    room.known.addresses["same"] = SLOW
    worker = room.worker("one")

    async def play(one: Lane) -> None:
        first = await two_batches(one, worker)
        late = [Asked(one, "same", 7), Asked(one, "slow", 8)]
        worker.gate.set()
        for each in [*first, *late]:
            await each.outputs()

    room.run(play)


def test_a_batch_goes_to_the_worker_that_has_the_model(room: Room) -> None:
    room.worker("one", SLOW.version)
    having = room.worker("two", QUICK.version)

    async def play(one: Lane) -> None:
        for n in range(8):
            await Asked(one, "quick", n).outputs()

    room.run(play)
    assert len(having.batches) == 8


def test_another_worker_helps_when_the_line_grows(room: Room) -> None:
    one, two = room.worker("one", SLOW.version), room.worker("two")

    async def play(lane_: Lane) -> None:
        asked = [Asked(lane_, "slow", n) for n in range(30)]
        await until(lambda: one.batches and two.batches)
        one.gate.set()
        two.gate.set()
        for each in asked:
            await each.outputs()

    room.run(play)


def test_a_full_line_says_when_to_come_back(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "MOST_WAITING", 5)
    worker = room.worker("one")

    async def play(one: Lane) -> None:
        taken = await two_batches(one, worker)
        taken += [Asked(one, "slow", n) for n in range(5)]
        refused = Asked(one, "slow", 7)
        assert await refused.code() == "busy"
        assert (await refused.answer)[1]["retry_after"] >= 1
        worker.gate.set()
        for asked in taken:
            await asked.outputs()

    room.run(play)


def test_past_its_deadline_a_request_ends_in_line_or_out(room: Room) -> None:
    worker = room.worker("one")

    async def play(one: Lane) -> None:
        asked = [Asked(one, "slow", n, 0.1) for n in range(5)]
        for each in asked:
            assert await each.code() == "timeout"
        assert one.outstanding == 0
        worker.gate.set()
        assert await Asked(one, "slow", 9).outputs() == [{"y": 18}]

    room.run(play)


def test_what_a_client_left_is_not_computed(room: Room) -> None:
    worker = room.worker("one")

    async def play(one: Lane) -> None:
        out = [Asked(one, "slow", n) for n in range(2)]
        left, stays = Asked(one, "slow", 7), Asked(one, "slow", 8)
        left.request.is_gone = True
        worker.gate.set()
        for each in (*out, stays):
            await each.outputs()

    room.run(play)
    assert 7 not in [item for batch in worker.batches for item in batch[1:]]


def test_what_all_clients_left_is_stopped_while_it_is_computed(room: Room) -> None:
    worker, stopped = room.worker("one"), threading.Event()

    def predict(version: int, items: Any) -> list[dict[str, Any]]:
        worker.batches.append([version, *items])
        while version == SLOW.version and not worker.gate.wait(0.01):
            try:
                stop.look()
            except stop.Stopped:
                stopped.set()
                raise
        return [{"y": 2 * one} for one in items]

    worker.line._predict = predict

    async def play(one: Lane) -> None:
        stays, left = await two_batches(one, worker)
        left.request.is_gone = True
        await until(stopped.is_set)
        assert await Asked(one, "quick", 3).outputs() == [{"y": 6}]
        worker.gate.set()
        assert await stays.outputs() == [{"y": 0}]

    room.run(play)


def test_when_a_worker_dies_another_answers(room: Room) -> None:
    one, two = room.worker("one", SLOW.version), room.worker("two")
    two.gate.set()

    async def play(lane_: Lane) -> None:
        asked = [Asked(lane_, "slow", n) for n in range(3)]
        await until(lambda: one.batches)
        room.known.workers.remove(one)
        one.die()
        for n, each in enumerate(asked):
            assert await each.outputs() == [{"y": 2 * n}]
        one.end()

    room.run(play)


def test_while_the_only_worker_is_away_requests_wait(room: Room) -> None:
    first = room.worker("one")

    async def play(one: Lane) -> None:
        asked = Asked(one, "slow", 3)
        await until(lambda: first.batches)
        room.known.workers.clear()
        first.die()
        await until(lambda: not one._crew.peers)
        again = room.worker("two")
        again.gate.set()
        assert await asked.outputs() == [{"y": 6}]
        first.end()

    room.run(play)


def test_without_any_worker_the_other_lane_explains(room: Room) -> None:
    room.known.is_up = False

    async def play(one: Lane) -> None:
        status, _ = await Asked(one, "quick", 1).answer
        assert status == Status.ODD

    room.run(play)


def test_an_address_that_means_nothing_is_left_to_the_other_lane(room: Room) -> None:
    room.worker("one")

    async def play(one: Lane) -> None:
        status, _ = await Asked(one, "none", 1).answer
        assert status == Status.ODD
        assert not one._queues["none"].waiting

    room.run(play)


def test_what_workers_die_of_takes_no_neighbour_along(room: Room) -> None:
    worker = room.worker("one")
    worker.deadly = 13

    async def play(one: Lane) -> None:
        asked = {n: Asked(one, "quick", n) for n in (1, 13, 2, 3)}
        assert await asked.pop(13).code() == "internal"
        for n, each in asked.items():
            assert await each.outputs() == [{"y": 2 * n}]

    room.run(play)
    assert sum(13 in batch[1:] for batch in worker.batches) == lane.TRIES


def test_what_lost_a_worker_is_asked_again_with_nobody_of_its_address_beside_it(
    room: Room,
) -> None:
    worker, flights = room.worker("one"), list[int]()
    worker.deadly = 13

    async def play(one: Lane) -> None:
        def predict(version: int, items: Any) -> list[dict[str, Any]]:
            flights.append(one._queues["quick"].flights)
            return worker.predict(version, items)

        worker.line._predict = predict
        asked = [Asked(one, "quick", n) for n in (1, 13, 2, 3)]
        for each in asked:
            await each.answer

    room.run(play)
    assert set(flights) == {1}


def test_a_silent_worker_loses_its_batches_to_another(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "STUCK_AFTER", 0.1)
    silent, other = room.worker("one", SLOW.version), room.worker("two")
    other.gate.set()

    async def play(one: Lane) -> None:
        silent.is_frozen.set()
        asked = Asked(one, "slow", 4)
        assert await asked.outputs() == [{"y": 8}]
        assert await Asked(one, "slow", 5).outputs() == [{"y": 10}]

    room.run(play)
    assert [batch[1] for batch in silent.batches] == [4]


def test_where_every_look_finds_a_change_each_batch_is_looked_up(room: Room) -> None:
    room.known.is_written_always = True
    room.worker("one")

    async def play(one: Lane) -> None:
        asked = [Asked(one, "quick", n) for n in range(30)]
        for n, each in enumerate(asked):
            assert await each.outputs() == [{"y": 2 * n}]

    room.run(play)


def test_who_waits_for_a_version_that_is_deleted_on_the_way_is_answered_by_the_next(
    room: Room,
) -> None:
    worker = room.worker("one")
    worker.deleted = {QUICK.version}

    def move() -> None:
        room.known.addresses["quick"] = Found(3, "quick", 2, 4)

    worker.when_asked_for_deleted = move

    async def play(one: Lane) -> None:
        asked = [Asked(one, "quick", n) for n in range(30)]
        for n, each in enumerate(asked):
            assert await each.outputs() == [{"y": 2 * n}]

    room.run(play)
    assert {batch[0] for batch in worker.batches} == {QUICK.version, 3}


def test_a_version_that_only_a_worker_does_not_find_is_not_asked_for_without_end(
    room: Room,
) -> None:
    worker = room.worker("one")
    worker.deleted = {QUICK.version}

    async def play(one: Lane) -> None:
        assert await Asked(one, "quick", 1).code() == "unknown_model"

    room.run(play)
    assert len(worker.batches) == lane.TRIES


def test_who_came_after_the_look_is_looked_up_anew(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.known.is_written_always = True
    worker = room.worker("one")
    looked, go_on = asyncio.Event(), asyncio.Event()

    async def find(address: str) -> Found:
        was = room.known.addresses["quick"]
        looked.set()
        await go_on.wait()
        return was

    monkeypatch.setattr(room.known, "find", find)

    async def play(one: Lane) -> None:
        early = Asked(one, "quick", 1)
        await looked.wait()
        room.known.addresses["quick"] = Found(3, "quick", 2, 4)
        late = Asked(one, "quick", 2)
        go_on.set()
        await early.outputs()
        await late.outputs()

    room.run(play)
    assert sorted(worker.batches) == [[1, 1], [3, 2]]


CHAMPION, CANARY = Found(1, "quick", 1, 4, (9, 0)), Found(2, "slow", 1, 4, (9, 0))
SPLIT = Found(1, "quick", 1, 4, (9, 0), CANARY, 0.5, "m@champion")


def keys_of(found: Found, side: Found, count: int) -> list[str]:
    """Keys whose requests that side answers."""
    names = (f"key-{n}" for n in itertools.count())
    fitting = (name for name in names if found.side(draw(found, name)) is side)
    return list(itertools.islice(fitting, count))


def test_a_side_of_a_split_that_is_slow_holds_up_none_of_the_other(room: Room) -> None:
    worker = room.worker("one")
    room.known.addresses["split"] = SPLIT

    async def play(one: Lane) -> None:
        slow = [
            Asked(one, "split", n, key=key)
            for n, key in enumerate(keys_of(SPLIT, CANARY, 20))
        ]
        for n, key in enumerate(keys_of(SPLIT, SPLIT, 20)):
            assert await Asked(one, "split", n, key=key).outputs() == [{"y": 2 * n}]
        worker.gate.set()
        for n, asked in enumerate(slow):
            assert await asked.outputs() == [{"y": 2 * n}]

    room.run(play)
    for batch in worker.batches:
        assert len(set(map(type, batch))) == 1
    of_canary = [
        item for batch in worker.batches if batch[0] == 2 for item in batch[1:]
    ]
    assert of_canary == list(range(20))


def test_without_a_key_chance_decides_once_for_each_request(room: Room) -> None:
    worker = room.worker("one")
    worker.gate.set()
    room.known.addresses["split"] = SPLIT

    async def play(one: Lane) -> None:
        asked = [Asked(one, "split", n) for n in range(200)]
        for each in asked:
            await each.outputs()

    room.run(play)
    share = sum(len(batch) - 1 for batch in worker.batches if batch[0] == 2)
    assert 60 <= share <= 140  # more than five standard deviations around 100
    assert sum(len(batch) - 1 for batch in worker.batches) == 200


def test_who_waits_when_a_split_ends_is_answered_by_what_is_named_then(
    room: Room,
) -> None:
    worker = room.worker("one")
    room.known.addresses["split"] = SPLIT

    async def play(one: Lane) -> None:
        keys = keys_of(SPLIT, CANARY, 5)
        asked = []
        for n, key in enumerate(keys):
            asked.append(Asked(one, "split", n, key=key))
            await until(lambda: len(worker.batches) == min(2, len(asked)))
        room.known.addresses["split"] = QUICK
        worker.gate.set()
        for each in asked:
            await each.outputs()

    room.run(play)
    taken = [(batch[0], len(batch) - 1) for batch in worker.batches]
    assert sum(count for version, count in taken if version == CANARY.version) == 2
    assert sum(count for version, count in taken if version == QUICK.version) == 3


def test_a_request_with_less_time_ends_before_those_that_came_earlier(
    room: Room,
) -> None:
    worker = room.worker("one")

    async def play(one: Lane) -> None:
        long = [Asked(one, "slow", n) for n in range(4)]
        short = Asked(one, "slow", 9, 0.05)
        assert await short.code() == "timeout"
        worker.gate.set()
        for each in long:
            await each.outputs()

    room.run(play)


def test_lines_of_many_addresses_are_forgotten(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "MOST_QUEUES", 10)
    room.worker("one")

    async def play(one: Lane) -> None:
        for n in range(50):
            await Asked(one, f"none{n}", 1).answer
            assert len(one._queues) <= 10

    room.run(play)


def test_a_key_is_drawn_evenly_and_differently_for_each_alias() -> None:
    other = Found(1, "quick", 1, 4, None, CANARY, 0.5, "m@other")
    drawn = [draw(SPLIT, f"key-{n}") for n in range(4000)]
    assert drawn == [draw(SPLIT, f"key-{n}") for n in range(4000)]
    assert 0.45 < sum(one < 0.5 for one in drawn) / 4000 < 0.55
    assert all(0 <= one < 1 for one in drawn)
    assert drawn != [draw(other, f"key-{n}") for n in range(4000)]
    small = Found(1, "quick", 1, 4, None, CANARY, 0.1, "m@champion")
    for one in drawn:  # who is with the second stays there as its weight grows
        assert small.side(one) is small or SPLIT.side(one) is CANARY


def test_what_a_silent_worker_still_has_is_dropped_there() -> None:
    written, lost = list[bytes](), list[int]()

    class Transport:
        def write(self, content: bytes) -> None:
            written.append(content)

    one = peer.Peer(Place("still", "1", "", "", 0), {}, lambda: None)
    one.connection_made(Transport())  # type: ignore[arg-type]
    flight = peer.Flight(1, 1, lambda *_: None, lambda: lost.append(len(written)))
    one.ask(flight, 5.0, [b"[1]"])
    one.give_up()
    assert written[1:] == [frames.frame(Kind.DROP, 1)]
    assert lost == [2]
    one.connection_lost(None)
    assert len(written) == 2
