"""The results of a batch of which only the best are kept, with what stands in their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from inference import ranking
from inference.bulk import Batch
from inference.ranking import Ranked, Top
from inference.sinks import Results
from inference.sources import Record
from registry import store

AT_ONCE = 256  # results written in one piece
T = TypeVar("T")

Look = Callable[[], object]  # called again and again; may raise


def publish(batch: Batch, top: Top, look: Look) -> int:
    """Put the best of all shards into the results; how many these are."""
    parts = (batch.files.shard(number) for number in range(batch.shards))
    best = top.best(ranking.read(_looked_at(parts, look)))
    batch.files.publish(lambda path: _write(batch, best, path, look))
    return len(best)


def _write(batch: Batch, best: list[Ranked], path: Path, look: Look) -> None:
    records = _records(batch, sorted(one.row for one in best), look)
    part = store.aside(batch.sink.suffix)
    written = batch.sink.part(part)
    for at in range(0, len(best), AT_ONCE):
        some = best[at : at + AT_ONCE]
        raws, items = zip(*(records[one.row] for one in some), strict=True)
        rows, told = [one.row + 1 for one in some], [one.answer for one in some]
        ranks = range(at + 1, at + 1 + len(some))
        written.put(batch.sink.piece(Results(rows, raws, items, told, ranks)))
    written.close()
    whole = batch.sink.whole(path)
    whole.append(part)
    whole.close()
    part.unlink()


def _records(batch: Batch, wanted: list[int], look: Look) -> dict[int, Record]:
    """What stands in these rows, which are read in the order of the file."""
    records: dict[int, Record] = {}
    shards = groupby(wanted, key=lambda row: row // batch.size)
    for shard, group in _looked_at(shards, look):
        chosen, first = set(group), shard * batch.size
        at = first
        for found in batch.source.read(first, max(chosen) - first + 1):
            for row, one in enumerate(zip(*found, strict=True), at):
                if row in chosen:
                    records[row] = one
            at += len(found[0])
    return records


def _looked_at(some: Iterable[T], look: Look) -> Iterator[T]:
    for one in some:
        look()
        yield one
