"""Rows of a Parquet file as items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings

from inference import strange
from inference.sources import AT_ONCE, Record, Records, Tick, write_aside
from inference.sources.marks import Marks
from inference.texts import Typed

HEAD = 100  # rows that are looked at first


class Slot(NamedTuple):
    """One row of a batch of rows."""

    batch: Any
    place: int


class Parquet:
    """The rows are unpacked beside the task first, in parts that can each be read alone.

    That is done by another process; this one reads only what that one has written.
    """

    delimiter = ","

    def __init__(
        self, path: Path, home: Path, typed: Typed, common: Mapping[str, Any]
    ) -> None:
        self.path, self.typed, self.common = path, typed, common
        self.unpacked, self.marks = home / "items.arrow", Marks(home / "marks.npy")

    @cached_property
    def looked(self) -> strange.Look:
        """The first rows, and how many there are. Raises BadData, and Problem `busy`."""
        return strange.look(self.path, HEAD)

    @cached_property
    def schema(self) -> Any:
        if not self.marks.exist():
            return self.looked.first.schema
        with self._reader() as reader:
            return reader.schema

    @property
    def columns(self) -> tuple[str, ...] | None:
        return tuple(self.schema.names)

    def prepare(self, every: int, tick: Tick) -> int:
        if not self.marks.exist():
            write_aside(self.unpacked, lambda aside: self._unpack(aside, every, tick))
            self.marks.write(every, self._starts, lambda: self._count)
        return self.marks.count

    def read(self, first: int, count: int) -> Iterator[Records]:
        number, at = self.marks.before(first)
        with self._reader() as reader:
            while count > 0 and number < reader.num_record_batches:
                batch = reader.get_batch(number)
                start = max(first - at, 0)
                for place in range(start, min(start + count, batch.num_rows), AT_ONCE):
                    some = batch.slice(place, min(AT_ONCE, start + count - place))
                    slots = [Slot(batch, place + n) for n in range(some.num_rows)]
                    yield slots, [self._item(row) for row in some.to_pylist()]
                count -= max(0, min(batch.num_rows - start, count))
                number, at = number + 1, at + batch.num_rows

    def head(self, count: int) -> Iterator[Record]:
        for batch in self.looked.first.slice(0, count).to_batches():
            for place, row in enumerate(batch.to_pylist()):
                yield Slot(batch, place), self._item(row)

    def shown(self, raw: Any, item: Any) -> Any:
        return raw.batch.slice(raw.place, 1).to_pylist()[0]

    def cells(self, raw: Any, item: Any) -> list[Any]:
        return list(self.shown(raw, item).values())

    def rows(self, raws: list[Slot]) -> Any:
        """These records as a table of their own types."""
        import pyarrow

        first, last = raws[0], raws[-1]
        is_run = last.place - first.place == len(raws) - 1
        if is_run and all(one.batch is first.batch for one in raws):
            batches = [first.batch.slice(first.place, len(raws))]
        else:
            batches = [one.batch.slice(one.place, 1) for one in raws]
        return pyarrow.Table.from_batches(batches, self.schema)

    def _item(self, row: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in row.items() if value is not None}
        if self.typed.has_texts(given):
            given = self.typed.item(given)
        return {**self.common, **given} if self.common else given

    def _reader(self) -> Any:
        import pyarrow

        return pyarrow.ipc.open_file(pyarrow.memory_map(str(self.unpacked)))

    def _unpack(self, aside: Path, every: int, tick: Tick) -> None:
        most = settings.ENVIRONMENT.upload_limit
        found = strange.unpack(self.path, aside, every, most, tick)
        self._count, self._starts = found
