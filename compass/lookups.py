"""What the raw lane asks the database: keys, addresses, workers; kept no longer than it is true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from django.db import close_old_connections, connections

from compass import changes
from compass.changes import SharedCalls
from inference import links
from inference.gateway import LANE
from inference.links import Place
from inference.routes import Found, find
from inference.traffic import Counter
from registry import clock
from registry.errors import Problem
from registry.models import ApiKey, Node
from registry.models.key import USE_NOTED_EVERY

KEY_KEPT = 30.0  # seconds, so that the key's use is noted
MOST = 10_000  # addresses or keys

T = TypeVar("T")


class Database:
    """The lane's lookups, by Django's models, in a thread of their own."""

    def __init__(self) -> None:
        self._changes = changes.seen()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lookups")
        # Apart from the lookups: a writer may wait long for its turn.
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="writing")
        self._written: Future[object] = self._writing.submit(int)
        self._as_of = 0
        self._found: dict[str, Found] = {}
        self._keys: dict[str, tuple[float, bool]] = {}
        self._key_lookups = SharedCalls(self._find_key)

    def known(self, address: str) -> Found | None:
        """The version of that address, if nothing was written since it was found."""
        return self._found.get(address) if self._is_current() else None

    async def find(self, address: str) -> Found:
        """The version of that address now. Raises Problem `unknown_model`."""
        before = self._renew(await self._changes.after())
        if kept := self._found.get(address):
            return kept
        found = await self._run(lambda: find(address))
        is_current = self._renew(await self._changes.after()) == before
        if is_current and len(self._found) < MOST:
            self._found[address] = found
        return found

    def distrust(self) -> None:
        """What was looked up until now does not hold for what is asked from now on."""
        self._changes.came()

    def _is_current(self) -> bool:
        """Whether what is kept holds now; what may have changed is forgotten."""
        count = self._changes.now()
        return count is not None and self._renew(count) == count

    def _renew(self, count: int) -> int:
        if count != self._as_of:
            self._as_of = count
            self._found.clear()
            self._keys.clear()
        return count

    async def places(self) -> tuple[list[Place], bool]:
        def look() -> tuple[list[Place], bool]:
            up = Node.objects.up(clock.now()).filter(lane=LANE)
            return links.places(), up.exists()

        return await self._run(look)

    def may_predict(self, digest: str) -> bool | None:
        """Whether the key of a request that came may predict; None if it has to be looked up."""
        self._changes.came()
        return self._kept(digest) if self._is_current() else None

    async def look_at_key(self, digest: str) -> bool:
        """Whether the key of that digest may predict now."""
        self._renew(await self._changes.after())
        may = self._kept(digest)
        return may if may is not None else await self._key_lookups.ask(digest)

    async def _find_key(self, digest: str) -> bool:
        before = self._renew(await self._changes.after())
        left, may = await self._run(lambda: _key(digest))
        if self._renew(await self._changes.after()) == before:
            self._keep_key(digest, min(left, KEY_KEPT), may)
        return may

    def _kept(self, digest: str) -> bool | None:
        entry = self._keys.get(digest)
        return entry[1] if entry and entry[0] >= time.monotonic() else None

    def _keep_key(self, digest: str, seconds: float, may: bool) -> None:
        if len(self._keys) >= MOST:
            self._keys.clear()
        self._keys[digest] = time.monotonic() + seconds, may

    def write(self, counters: Sequence[Counter], *, is_last: bool = False) -> None:
        """Add what was counted to its rows in a while, one time after the other."""
        if not (self._written.done() or is_last):
            return
        for counter in counters:
            if figures := counter.take():
                self._written = self._writing.submit(counter.write, figures)

    def close(self) -> None:
        for thread in (self._thread, self._writing):
            thread.submit(connections.close_all)
            thread.shutdown()
        self._changes.close()

    async def _run(self, work: Callable[[], T]) -> T:
        def fresh() -> T:
            try:
                return work()
            except Problem:
                raise
            except Exception:
                close_old_connections()
                raise

        return await asyncio.get_running_loop().run_in_executor(self._thread, fresh)


def _key(digest: str) -> tuple[float, bool]:
    """Seconds until it expires, and whether it may predict; its use is noted."""
    rows = ApiKey.objects.valid().select_related("user").filter(sha256=digest)
    row = rows.first()
    if row is None:
        return 0.0, False
    moment = clock.now()
    if row.last_used_at is None or moment - row.last_used_at > USE_NOTED_EVERY:
        ApiKey.objects.filter(pk=row.pk).update(last_used_at=moment)
    left = (row.expires_at or datetime.max.replace(tzinfo=UTC)) - moment
    held = set(row.scopes)
    if not row.user.is_staff:
        held.discard("admin")
    return left.total_seconds(), bool(held & {"predict", "admin"})
