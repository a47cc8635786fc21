"""Rows of a Parquet file as items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings

from inference.sources import Record, Records, Tick, together, write_aside
from inference.texts import Typed
from registry.errors import BadData

AT_ONCE = 4096  # rows in memory while the file is unpacked
LARGEST_GROUP = 1024**3  # bytes that a group of rows says it has


class Slot(NamedTuple):
    """One row of a batch of rows."""

    batch: Any
    place: int


class Parquet:
    """The rows are unpacked beside the task first, in parts that can each be read alone."""

    delimiter = ","

    def __init__(
        self, path: Path, home: Path, typed: Typed, common: Mapping[str, Any]
    ) -> None:
        self.path, self.typed, self.common = path, typed, common
        self.unpacked = home / "items.arrow"

    @cached_property
    def schema(self) -> Any:
        return plain(open_parquet(self.path).schema_arrow)

    @property
    def columns(self) -> tuple[str, ...] | None:
        return tuple(self.schema.names)

    def prepare(self, every: int, tick: Tick) -> int:
        if not self.unpacked.exists():
            write_aside(self.unpacked, lambda aside: self._unpack(aside, every, tick))
        with self._reader() as reader:
            whole = max(reader.num_record_batches - 1, 0)
            last = reader.get_batch(whole).num_rows if reader.num_record_batches else 0
            return int(self._every(reader) * whole + last)

    def read(self, first: int, count: int) -> Iterator[Records]:
        return together(self._each(first, count))

    def _each(self, first: int, count: int) -> Iterator[Record]:
        with self._reader() as reader:
            every = self._every(reader)
            while count > 0 and first // every < reader.num_record_batches:
                batch, start = reader.get_batch(first // every), first % every
                some = batch.slice(start, count)
                for place, row in enumerate(some.to_pylist(), start):
                    yield Slot(batch, place), self._item(row)
                first, count = first + some.num_rows, count - some.num_rows

    def head(self, count: int) -> Iterator[Record]:
        for batch in open_parquet(self.path).iter_batches(batch_size=count):
            for place, row in enumerate(batch.to_pylist()):
                yield Slot(batch, place), self._item(row)
            return

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

    def _every(self, reader: Any) -> int:
        return max(1, reader.get_batch(0).num_rows) if reader.num_record_batches else 1

    def _unpack(self, aside: Path, every: int, tick: Tick) -> None:
        """Write parts of `every` rows, for the groups of rows in the file may be of any size."""
        import pyarrow

        file, most = open_parquet(self.path), settings.ENVIRONMENT.upload_limit
        schema = plain(file.schema_arrow)
        with pyarrow.OSFile(str(aside), "wb") as out:
            writer = pyarrow.ipc.new_file(out, schema)
            held: list[Any] = []
            try:
                for batch in file.iter_batches(batch_size=min(every, AT_ONCE)):
                    tick()
                    rows = pyarrow.Table.from_batches([batch]).cast(schema)
                    held += rows.to_batches()
                    while sum(one.num_rows for one in held) >= every:
                        rows = pyarrow.Table.from_batches(held, schema)
                        self._part(writer, rows.slice(0, every), most, out)
                        held = rows.slice(every).to_batches()
                if held:
                    rows = pyarrow.Table.from_batches(held, schema)
                    self._part(writer, rows, most, out)
            except (pyarrow.ArrowException, OSError) as error:
                raise BadData(
                    f"the Parquet file cannot be read: {_text(error)}"
                ) from None
            writer.close()

    def _part(self, writer: Any, rows: Any, most: int, out: Any) -> None:
        for batch in rows.combine_chunks().to_batches():
            writer.write_batch(batch)
        if out.tell() > most:
            raise BadData(f"the Parquet file unpacks to more than {most:,} bytes")


def plain(schema: Any) -> Any:
    """The schema without dictionaries, which a file of parts cannot change from part to part."""
    import pyarrow

    fields = [
        one.with_type(one.type.value_type)
        if pyarrow.types.is_dictionary(one.type)
        else one
        for one in schema
    ]
    return pyarrow.schema(fields)


def open_parquet(path: Path) -> Any:
    """The Parquet file at `path`. Raises BadData."""
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        about = file.metadata
        sizes = (
            about.row_group(n).total_byte_size for n in range(about.num_row_groups)
        )
        if max(sizes, default=0) > LARGEST_GROUP:
            text = f"a group of rows has more than {LARGEST_GROUP:,} bytes"
            raise BadData(f"the Parquet file cannot be read: {text}")
        names = file.schema_arrow.names
    except (pyarrow.ArrowException, OSError) as error:
        raise BadData(f"the Parquet file cannot be read: {_text(error)}") from None
    if len(set(names)) != len(names):
        raise BadData("the Parquet file has a column twice")
    return file


def _text(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
