"""One shard's results while they are written."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from inference import ranking
from inference.bulk import Answers, Batch
from inference.chunk import Chunk
from inference.ranking import Ranked
from inference.sinks import Results
from registry import store


def piece(batch: Batch, first: int, chunk: Chunk, answers: Answers) -> Any:
    """The results of a chunk made ready for `put`; rows count from 0."""
    if batch.top is not None:
        return list(batch.top.ranked(first, answers))
    rows = range(first + 1, first + 1 + len(chunk))
    return batch.sink.piece(Results(rows, chunk.raws, chunk.kept, answers))


class Part:
    """Written by one thread and put on the disk by another."""

    error: BaseException | None = None

    def put(self, piece: Any) -> None:
        try:
            self._put(piece)
        except BaseException as error:
            self.error = error
            raise

    def closed(
        self,
        failed: int,
        write: Callable[[Callable[[], object]], object],
        closer: Executor,
    ) -> Future[None]:
        """Has `closer` put it on the disk once `write` has done what it was given."""
        found: Future[None] = Future()

        def told(call: Callable[[], object]) -> bool:
            try:
                if self.error is not None:
                    self.drop()
                    raise self.error
                call()
            except BaseException as error:
                found.set_exception(error)
                return False
            return True

        def close() -> None:
            if told(self._close):
                found.set_result(None)

        def end() -> None:
            if told(lambda: self._end(failed)):
                told(lambda: closer.submit(close))

        write(end)
        return found

    def drop(self) -> None:
        """Leave nothing of it; in the thread that writes."""
        raise NotImplementedError

    def _put(self, piece: Any) -> None:
        raise NotImplementedError

    def _end(self, failed: int) -> None:
        """All was put that it has."""

    def _close(self) -> None:
        raise NotImplementedError


class ShardFile(Part):
    """A file of its own, aside until it is whole; the best alone where they are all that is
    wanted."""

    def __init__(self, batch: Batch, number: int) -> None:
        self.batch, self.target = batch, batch.files.shard(number)
        self.aside = store.aside(self.target.suffix)
        self.best: list[Ranked] = []
        self.file = None if batch.top else batch.sink.part(self.aside)

    def drop(self) -> None:
        if self.file is not None:
            self.file.drop()
        self.aside.unlink(missing_ok=True)

    def _put(self, piece: Any) -> None:
        if self.file is not None:
            self.file.put(piece)
        elif self.batch.top is not None:
            self.best = self.batch.top.best([*self.best, *piece])

    def _close(self) -> None:
        if self.file is not None:
            self.file.close()
        else:
            ranking.write(self.aside, self.best)
        self.aside.replace(self.target)
