"""Whether anything was written since a look at the database, so that what it said still holds."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from django.db import close_old_connections, connection, connections

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Changes(Protocol):
    """Numbers of states of the database: the same number twice means nothing was written between."""

    def now(self) -> int | None:
        """As of now, or as of a look since which nobody came; None if it takes a new look."""
        ...

    async def after(self) -> int:
        """As of a look that begins after this call. Raises DatabaseError."""
        ...

    def came(self) -> None:
        """Somebody is to be answered by what is true from now on."""
        ...

    def close(self) -> None: ...


class Commits:
    """SQLite counts the commits of all other connections; a look takes 4 microseconds."""

    def __init__(self) -> None:
        self._count, self._seen = 0, None
        name = str(connection.settings_dict["NAME"])
        self._link = sqlite3.connect(name, timeout=0, isolation_level=None)

    def now(self) -> int:
        seen = None
        try:
            seen = self._link.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            pass
        self._count += seen is None or seen != self._seen
        self._seen = seen
        return self._count

    async def after(self) -> int:
        return self.now()

    def came(self) -> None: ...

    def close(self) -> None:
        self._link.close()


class Snapshots:
    """PostgreSQL tells which transactions are seen: two snapshots alike see the same rows.

    A look is one round trip, so those who came while one was out share the next. The place in its
    log of writes would not do: a commit stands there a moment before others see it.
    """

    def __init__(self) -> None:
        self._count, self._seen = 0, ""
        self._holds = self._is_late = False
        self._looks = SharedCalls[None, int](lambda _: self._look())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="changes")

    def now(self) -> int | None:
        return self._count if self._holds else None

    async def after(self) -> int:
        return await self._looks.ask(None)

    def came(self) -> None:
        self._holds, self._is_late = False, True

    def close(self) -> None:
        self._thread.submit(connections.close_all)
        self._thread.shutdown()

    async def _look(self) -> int:
        self._is_late = False
        loop = asyncio.get_running_loop()
        seen = await loop.run_in_executor(self._thread, _snapshot)
        self._count += seen != self._seen
        self._seen, self._holds = seen, not self._is_late
        return self._count


class SharedCalls(Generic[K, T]):
    """One call for each key at a time; those who ask while it is out share the next one."""

    def __init__(self, call: Callable[[K], Awaitable[T]]) -> None:
        self._call = call
        self._out: dict[K, asyncio.Task[T]] = {}
        self._next: dict[K, asyncio.Task[T]] = {}

    async def ask(self, key: K) -> T:
        """The result of a call that begins after this one."""
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.ensure_future(self._begin(key))
        return await asyncio.shield(task)  # one who leaves stops it for nobody else

    async def _begin(self, key: K) -> T:
        if before := self._out.get(key):
            await asyncio.wait([before])
        mine = self._out[key] = self._next.pop(key)
        try:
            return await self._call(key)
        finally:
            if self._out.get(key) is mine:
                del self._out[key]


def seen() -> Changes:
    """Those of the database that Django is set to."""
    return Commits() if connection.vendor == "sqlite" else Snapshots()


def _snapshot() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_snapshot()::text")
            return str(cursor.fetchone()[0])
    except Exception:
        close_old_connections()
        raise
