"""A worker's part in a batch: shard after shard, whoever the batch belongs to."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from inference.bulk import Answerer, Answers, Batch
from inference.chunk import Chunk
from inference.claims import Claims
from inference.flow import Flow, Then
from inference.part import Part, ShardFile, piece
from inference.spread import Spread, cores
from inference.stop import Stop, Stopped
from registry.errors import BadData

log = logging.getLogger(__name__)

CHUNK_SECONDS = 0.2  # of work between two looks at the wishes
FIRST_CHUNK, MOST_IN_CHUNK = 8, 1024  # items
CLAIM_SECONDS = 0.5  # of work that is claimed at once
SHARED_SECONDS = 0.1  # the same where others take shards too, so that all end together
MOST_CLAIMED = 16  # shards
WRITTEN_BEHIND = 64  # shards that are not yet known to be on the disk
CLOSED_AT_ONCE = 2  # shards that are put on the disk while the next are written
CHUNKS_BEHIND = 4  # chunks that wait for the disk
SALVAGED_WITHIN = 0.3  # seconds, for what is predicted when the work ends early
QUICK = 0.03  # seconds of a pass that needs no thread of its own
AT_ONCE = (
    1.0  # seconds after which such a one begins again in one, to be looked at meanwhile
)


@dataclass
class Open:
    """A shard whose results are not all in its part yet."""

    number: int
    first: int  # of its items
    part: Part
    written: int = 0  # items
    failed: int = 0


class Work:
    """Takes shards, answers them chunk by chunk, and writes each into its file.

    `look` is called between chunks and may end it by raising; `patient` runs a call of the
    database; `straight` gives a shard a better place than a file of its own, and `hurry` says that
    it is time to put what stands there on the disk. A network that is not quick has threads of its
    own, one for each core that is free, and the next chunk is encoded meanwhile; of a quick one
    all else is Python, and `hands` is told how many more processes have a core, and how many
    seconds of work are left; it answers whether others take shards too. Another thread writes, and calls `written` after each shard, perhaps before that one is whole.
    """

    def __init__(
        self,
        batch: Batch,
        claims: Claims,
        *,
        look: Callable[[], object],
        straight: Callable[[int], Part | None] = lambda number: None,
        written: Callable[[], object] = lambda: None,
        hurry: Callable[[], object] = lambda: None,
        hands: Callable[[int, float], bool] = lambda more, left: False,
        is_alone: bool = True,
        patient: Callable[[Callable[[], Any]], Any] = lambda call: call(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.batch, self._claims = batch, claims
        self._look, self._patient, self._monotonic = look, patient, monotonic
        self._straight, self._when_written, self._hurry = straight, written, hurry
        self._hands, self._is_alone = hands, is_alone
        self.unnoted = 0  # items answered of shards that are not noted as done
        self._chunk, self._at_once = FIRST_CHUNK, 1
        self._is_quick = False
        self._spread = Spread(cores(), own=self._computed, monotonic=monotonic)
        self._open: deque[Open] = deque()
        self._behind: deque[Future[object]] = deque()
        self._written: deque[tuple[int, int, Future[None]]] = deque()
        # Failed items by shard, of those that the database does not know to be done.
        self._done: dict[int, int] = {}

    def run(self, answer: Answerer) -> None:
        """Work until there is no shard to take. Raises Stale once the task takes none."""
        batch = self.batch
        batch.files.folder.mkdir(parents=True, exist_ok=True)
        self._flow = Flow(
            partial(self._predicted, answer),
            width=self._spread,
            most=self._spread.most,
            look=self._look,
        )
        with (
            ThreadPoolExecutor(CLOSED_AT_ONCE, "shard-close") as self._closer,
            ThreadPoolExecutor(1, "shard-files") as self._disk,
        ):
            try:
                while numbers := self._take():
                    began = self._monotonic()
                    for done, number in enumerate(numbers, 1):
                        self._shard(number, answer)
                        spent = max(self._monotonic() - began, 1e-6) / done
                        self._ask_for_hands(spent * (batch.shards - number - 1))
                    seconds = CLAIM_SECONDS if self._is_alone else SHARED_SECONDS
                    most = min(4 * self._at_once, MOST_CLAIMED)
                    self._at_once = max(1, min(int(seconds / spent), most))
            except BaseException:
                self._hurry()
                self._flow.salvage(SALVAGED_WITHIN)
                for shard in self._open:
                    self._disk.submit(shard.part.drop)
                self._give_back()
                raise
            finally:
                self._flow.close()

    def _ask_for_hands(self, left: float) -> None:
        if self._is_quick and (free := self._spread() - 1):
            self._is_alone = not self._hands(free, left) and self._is_alone

    def _computed(self) -> float:
        """Seconds of processor time of this thread and of the passes."""
        flow = getattr(self, "_flow", None)
        return time.thread_time() + (flow.seconds if flow else 0.0)

    def _take(self) -> list[int]:
        """The next shards; none once all that was written is noted and none is free."""
        while True:
            self._note(WRITTEN_BEHIND)
            numbers: list[int] = self._patient(
                lambda: self._claims.take(self._at_once, self._done)
            )
            size, count = self.batch.size, self.batch.count
            for number in self._done:
                self.unnoted -= min(size, count - number * size)
            self._done.clear()
            if numbers:
                return numbers
            if not self._flow.is_empty:
                self._flow.drain()
            elif self._written:
                self._hurry()
                self._written[-1][2].result()
            else:
                while self._behind:  # what others wrote may not be all there
                    self._behind.popleft().result()
                return []

    def _shard(self, number: int, answer: Answerer) -> None:
        batch = self.batch
        first = number * batch.size
        count, at = min(batch.size, batch.count - first), 0
        shard = Open(number, first, self._straight(number) or ShardFile(batch, number))
        self._open.append(shard)
        for chunk in self._chunks(first, count, answer):
            at += len(chunk)
            then = partial(self._answered, shard, chunk)
            if not (self._is_quick and self._is_answered_here(answer, chunk, then)):
                self._flow.push(chunk, then)
        if at != count:
            raise BadData(f"it has {first + at} rows, not {batch.count}")
        self._flow.behind(partial(self._ended, shard))

    def _is_answered_here(self, answer: Answerer, chunk: Chunk, then: Then) -> bool:
        """Two threads that are both in Python hand over its lock again and again."""
        self._flow.drain()
        try:
            with Stop(time.monotonic() + AT_ONCE):
                answers = self._predicted(answer, chunk)
        except Stopped:
            self._is_quick = False
            return False
        then(answers)
        return True

    def _answered(self, shard: Open, chunk: Chunk, answers: Answers) -> None:
        shard.failed += sum(["error" in one for one in answers])
        found = piece(self.batch, shard.first + shard.written, chunk, answers)
        self._write(partial(shard.part.put, found))
        shard.written += len(chunk)
        self.unnoted += len(chunk)

    def _ended(self, shard: Open) -> None:
        on_disk = shard.part.closed(shard.failed, self._write, self._closer)
        self._open.remove(shard)
        self._written.append((shard.number, shard.failed, on_disk))
        self._write(self._when_written)

    def _chunks(self, first: int, count: int, answer: Answerer) -> Iterator[Chunk]:
        """Encoded items, some at a time; of the items themselves only a few are held."""
        batch, chunk = self.batch, Chunk()
        for raws, items in batch.source.read(first, count):
            at = 0
            while at < len(raws):
                self._look()
                part = slice(at, at + max(1, self._chunk - len(chunk)))
                at = part.stop
                began = self._monotonic()
                encoded = answer.encode(items[part])
                spent = self._monotonic() - began
                chunk.add(raws[part], batch.kept(items[part]), encoded, spent)
                if chunk.is_full(self._chunk):
                    yield chunk
                    chunk = Chunk()
        if len(chunk):
            yield chunk

    def _predicted(self, answer: Answerer, chunk: Chunk) -> Answers:
        """The answers to a chunk; a later one has the size that takes CHUNK_SECONDS."""
        began, count = self._monotonic(), len(chunk)
        answers = answer.predict(chunk.encoded)
        chunk.encoded.clear()
        predicting = self._monotonic() - began
        spent = max(chunk.seconds + predicting, 1e-6)
        fitting = int(count * CHUNK_SECONDS / spent)
        self._chunk = min(max(1, fitting), 2 * self._chunk, MOST_IN_CHUNK)
        self._is_quick = predicting / count * self._chunk < QUICK
        return answers

    def _write(self, call: Callable[[], object]) -> None:
        """In a thread of its own; at once where waking one would cost more than it spares."""
        behind = self._behind
        while behind and (len(behind) >= CHUNKS_BEHIND or behind[0].done()):
            behind.popleft().result()
        if self._is_quick and not behind:
            call()
        else:
            behind.append(self._disk.submit(call))

    def _note(self, behind: int) -> None:
        """Note what is on the disk; more than so many shards are not left to be written."""
        while self._written and (
            self._written[0][2].done() or len(self._written) > behind
        ):
            number, failed, written = self._written.popleft()
            written.result()
            self._done[number] = failed

    def _give_back(self) -> None:
        """Leave what was taken to others; whoever cannot say so is waited for."""
        try:
            self._note(0)
            self._claims.give_back(self._done)
        except Exception as error:
            log.warning("Shards of task %s run out: %s", self._claims.task, error)
