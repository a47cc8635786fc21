"""One shard's file while it is written."""

from __future__ import annotations

from concurrent.futures import Executor, Future

from inference import ranking
from inference.bulk import Answers, Batch
from inference.chunk import Chunk
from inference.ranking import Ranked
from inference.sinks import Results
from registry import store


class ShardFile:
    """One shard's file, aside until it is whole; the best alone where they are all that is
    wanted."""

    def __init__(self, batch: Batch, number: int) -> None:
        self.batch, self.target = batch, batch.files.shard(number)
        self.aside = store.aside(self.target.suffix)
        self.best: list[Ranked] = []
        self.part = None if batch.top else batch.sink.part(self.aside)
        self.error: BaseException | None = None

    def put(self, first: int, chunk: Chunk, answers: Answers) -> None:
        try:
            if self.batch.top is not None:
                found = self.batch.top.ranked(first, answers)
                self.best = self.batch.top.best([*self.best, *found])
            elif self.part is not None:
                rows = range(first + 1, first + 1 + len(chunk))
                results = Results(rows, chunk.raws, chunk.kept, answers)
                self.part.put(self.batch.sink.piece(results))
        except BaseException as error:
            self.error = error
            raise

    def closed(self, writer: Executor, closer: Executor) -> Future[None]:
        """Has `closer` put it on the disk once `writer` has done what it was given."""
        found: Future[None] = Future()

        def close() -> None:
            try:
                self.close()
            except BaseException as error:
                found.set_exception(error)
            else:
                found.set_result(None)

        writer.submit(closer.submit, close)
        return found

    def close(self) -> None:
        if self.error is not None:
            self.drop()
            raise self.error
        if self.part is not None:
            self.part.close()
        else:
            ranking.write(self.aside, self.best)
        self.aside.replace(self.target)

    def drop(self) -> None:
        if self.part is not None:
            self.part.drop()
        self.aside.unlink(missing_ok=True)
