"""Whether what was looked up still holds: no commit is missed, on either database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction

from compass import changes
from compass.changes import Changes, SharedCalls, Snapshots
from registry.models import ApiKey

Play = Callable[[Changes], Awaitable[None]]


@pytest.fixture
def run(transactional_db: None) -> Iterator[Callable[[Play], None]]:
    def run(play: Play) -> None:
        async def watch() -> None:
            seen = changes.seen()
            try:
                await asyncio.wait_for(play(seen), 20)
            finally:
                seen.close()

        asyncio.run(watch())

    yield run
    connections.close_all()


async def apart(work: Callable[[], Any]) -> None:
    """Do it over a connection of its own."""

    def do() -> None:
        try:
            work()
        finally:
            connections.close_all()

    await asyncio.to_thread(do)


def write() -> None:
    ApiKey.objects.filter(pk=0).update(name="none")
    ApiKey.make(user(), "another")


def user() -> Any:
    from django.contrib.auth.models import User

    return User.objects.get_or_create(username="writer")[0]


def test_a_commit_of_another_connection_is_always_seen(run: Any) -> None:
    async def play(seen: Changes) -> None:
        before = await seen.after()
        for _ in range(20):
            await apart(write)
            now = await seen.after()
            assert now != before
            before = now

    run(play)


def test_while_nothing_is_written_nothing_has_changed(run: Any) -> None:
    async def play(seen: Changes) -> None:
        await apart(write)
        # PostgreSQL counts the transactions of its other databases too.
        for _ in range(1000):
            before = await seen.after()
            await apart(lambda: list(ApiKey.objects.all()))
            if await seen.after() == before:
                break
        assert seen.now() == before

    run(play)


def test_a_change_counts_from_its_commit_on(run: Any) -> None:
    async def play(seen: Changes) -> None:
        is_written, may_commit = threading.Event(), threading.Event()

        def slowly() -> None:
            with transaction.atomic():
                write()
                is_written.set()
                assert may_commit.wait(10)

        writing = asyncio.ensure_future(apart(slowly))
        await asyncio.to_thread(is_written.wait, 10)
        await seen.after()
        before = await seen.after()
        may_commit.set()
        await writing
        assert await seen.after() != before

    run(play)


class Database:
    """Snapshots that the test tells, once it lets the look end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.snapshot, self.looks = "1:1:", 0
        self.gate = threading.Event()
        self.gate.set()
        monkeypatch.setattr(changes, "_snapshot", self.look)

    def look(self) -> str:
        self.looks += 1
        found = self.snapshot
        assert self.gate.wait(10)
        return found


def play_with_snapshots(play: Callable[[Snapshots], Awaitable[None]]) -> None:
    async def watch() -> None:
        seen = Snapshots()
        try:
            await asyncio.wait_for(play(seen), 20)
        finally:
            seen._thread.shutdown()

    asyncio.run(watch())


def test_a_look_does_not_hold_for_who_came_after_it_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = Database(monkeypatch)

    async def play(seen: Snapshots) -> None:
        assert seen.now() is None
        first = await seen.after()
        assert seen.now() == first
        seen.came()
        assert seen.now() is None

        database.gate.clear()
        looking = asyncio.ensure_future(seen.after())
        while database.looks < 2:
            await asyncio.sleep(0.001)
        database.snapshot = "1:2:"  # written after that look, before this visitor
        seen.came()
        mine = asyncio.ensure_future(seen.after())
        database.gate.set()
        assert await looking == first
        assert seen.now() is None
        assert await mine != first
        assert seen.now() == await mine

    play_with_snapshots(play)


def test_who_came_while_a_look_was_out_share_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = Database(monkeypatch)

    async def play(seen: Snapshots) -> None:
        database.gate.clear()
        first = asyncio.ensure_future(seen.after())
        while not database.looks:
            await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(seen.after()) for _ in range(50)]
        await asyncio.sleep(0)
        others[7].cancel()
        database.gate.set()
        await asyncio.gather(first, *others, return_exceptions=True)
        assert database.looks == 2
        assert all(one.cancelled() == (one is others[7]) for one in others)

    play_with_snapshots(play)


def test_a_call_that_fails_fails_those_who_share_it_and_no_later_one() -> None:
    calls: list[str] = []

    async def call(key: str) -> int:
        calls.append(key)
        await asyncio.sleep(0)
        if len(calls) == 1:
            raise OSError("away")
        return len(calls)

    async def play() -> None:
        turns = SharedCalls[str, int](call)
        found = await asyncio.gather(
            turns.ask("a"), turns.ask("a"), return_exceptions=True
        )
        assert [type(one) for one in found] == [OSError, OSError]
        assert await turns.ask("a") == 2
        await asyncio.gather(turns.ask("a"), turns.ask("b"))
        assert calls == ["a", "a", "a", "b"]
        assert not turns._out
        assert not turns._next

    asyncio.run(play())
