"""The results of a batch as they come together, shard behind shard."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.bulk import Batch
from inference.ends import UNKNOWN, End, Ends
from inference.part import Part
from inference.sinks import Whole
from inference.sinks.files import Joined

log = logging.getLogger(__name__)

SYNC_EVERY = 0.25  # seconds; who writes waits for the disk while it is at the same file


class Gathering:
    """All results in one file: shards that others wrote are copied into it, one's own may be
    written straight behind those before them.

    What is in it is kept for a later attempt of the task, where the form of the results allows
    it. One thread at a time writes; `shards`, how many stand in it, may be read by all.
    """

    def __init__(self, batch: Batch, attempt: int) -> None:
        self.batch, self.shards = batch, 0
        self.path = batch.files.gathered(attempt)
        self._ends = Ends(self.path.with_suffix(".ends"))
        self._synced, self._unsynced = 0, list[End]()
        self._promised = (
            -1
        )  # the shard behind the last that is to be written straight into it
        self._lock, self._hurry, self._next_sync = (
            threading.Lock(),
            threading.Event(),
            0.0,
        )
        self._whole: Whole | None = None

    def begin(self, tick: Callable[[], object]) -> dict[int, int]:
        """Take over what an earlier attempt has; its shards with their failed items."""
        if self._whole is not None:
            return {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._whole = whole = self.batch.sink.whole(self.path)
        if not isinstance(whole, Joined):
            return {}
        folder, own = self.path.parent, self._ends.path
        earlier = [one for one in folder.glob("gathered-*.ends") if one != own]
        own.unlink(missing_ok=True)
        found = max(
            map(self._found, earlier), key=lambda one: len(one[1]), default=None
        )
        if found is not None and found[1]:
            path, ends = found
            whole.begin_with(path, ends[-1].end, tick)
            whole.sync()
            self._ends.add(0, ends)
            self.shards = self._synced = len(ends)
        for one in earlier:
            one.unlink(missing_ok=True)
            one.with_suffix(self.path.suffix).unlink(missing_ok=True)
        ends = found[1] if found else []
        return {n: one.failed for n, one in enumerate(ends) if one.failed != UNKNOWN}

    def part(self, number: int) -> Part | None:
        """The shard that is to be written straight behind those before it, if it can be."""
        if not isinstance(self._whole, Joined):
            return None
        if number not in (self.shards, self._promised):
            return None
        self._promised = number + 1
        return Straight(self, self._whole, number)

    def gather(self, most: int) -> None:
        """Put the next shards whose files stand, whoever wrote them, behind those before."""
        assert self._whole is not None
        until = min(self.batch.shards, self.shards + most)
        for number in range(self.shards, until):
            file = self.batch.files.shard(number)
            if not file.exists():
                return
            size = self._whole.size if isinstance(self._whole, Joined) else 0
            try:
                self._whole.append(file)
            except BaseException:
                if isinstance(self._whole, Joined):
                    self._whole.cut(size)  # the next try begins where this one did
                raise
            self.ended(UNKNOWN)

    def ended(self, failed: int) -> None:
        """The next shard stands in the file."""
        if isinstance(self._whole, Joined):
            self._unsynced.append(End(self._whole.size, failed))
        self.shards += 1

    def sync(self) -> None:
        """Have on the disk what stands in the file, and note it; now and then, until `hurry`."""
        if self._unsynced:
            self._hurry.wait(max(0.0, self._next_sync - time.monotonic()))
        with self._lock:
            if ended := self._unsynced[:]:
                assert isinstance(self._whole, Joined)
                self._whole.sync()
                self._ends.add(self._synced, ended)
                self._synced += len(ended)
                del self._unsynced[: len(ended)]
                self._next_sync = time.monotonic() + SYNC_EVERY

    def hurry(self) -> None:
        """Nothing more is to be written for now; who waits for the disk need not wait longer."""
        self._hurry.set()

    def publish(self) -> None:
        """Put the results into their place; all shards stand in them."""
        assert self._whole is not None
        self.hurry()
        self.sync()
        self._whole.close()
        self.batch.files.take(self.path)

    def leave(self) -> None:
        """Keep what a later attempt can go on with."""
        if self._whole is not None:
            self._whole.drop()
            if not isinstance(self._whole, Joined):
                self.path.unlink(missing_ok=True)

    def take_back(self, size: int) -> None:
        """Drop what stands behind these bytes, of a shard that did not come to its end."""
        assert isinstance(self._whole, Joined)
        self._promised = -1
        self._whole.cut(size)

    def _found(self, ends: Path) -> tuple[Path, list[End]]:
        """What an earlier attempt has, here or already in its place."""
        path, results = ends.with_suffix(self.path.suffix), self.batch.files.results
        try:
            if path.exists():
                return path, Ends(ends).read(path.stat().st_size)
            size = results.stat().st_size
            found = Ends(ends).read(size)
            is_whole = len(found) == self.batch.shards and found[-1].end == size
            return results, found if is_whole else []
        except OSError as error:
            log.info("%s cannot be taken over: %s", path, error)
            return path, []


class Straight(Part):
    """A shard that is written behind those before it."""

    def __init__(self, gathering: Gathering, whole: Joined, number: int) -> None:
        self.gathering, self.whole, self.number = gathering, whole, number
        self.begin: int | None = None  # in bytes, once something was put

    def drop(self) -> None:
        if self.begin is not None:
            self.gathering.take_back(self.begin)

    def _put(self, piece: Any) -> None:
        if self._is_next():
            if self.begin is None:
                self.begin = self.whole.size
            self.whole.put(piece)

    def _end(self, failed: int) -> None:
        if self._is_next():
            self.gathering.ended(failed)

    def _close(self) -> None:
        self.gathering.sync()

    def _is_next(self) -> bool:
        """False if another worker's file of it came before."""
        if self.gathering.shards < self.number:
            raise RuntimeError(f"shard {self.number} has none before it")
        return self.gathering.shards == self.number
