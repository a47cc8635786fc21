"""Rows of a CSV file as items."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from inference.sources import Record, Records, Tick, together, write_aside
from inference.sources.marks import Marks
from inference.texts import Typed
from registry.dialect import GZIP, Place, Table, open_table, open_unpacked

ROWS = 4096  # between two looks at the wishes
PIECE = 1024**2  # bytes


class Csv:
    """A gzipped file is unpacked beside the task first, so that any part of it can be read."""

    def __init__(
        self,
        path: Path,
        home: Path,
        schema: Mapping[str, Any],
        common: Mapping[str, Any],
    ) -> None:
        self.path, self.common, self.schema = path, common, schema
        self.unpacked, self.marks = home / "items.csv", Marks(home / "marks.npy")

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self.table.columns

    @property
    def delimiter(self) -> str:
        return self.table.delimiter

    @cached_property
    def table(self) -> Table:
        with self.path.open("rb") as file:
            is_packed = file.read(len(GZIP)) == GZIP
        is_here = is_packed and self.unpacked.exists()
        return open_table(self.unpacked if is_here else self.path)

    @cached_property
    def typed(self) -> Typed:
        return Typed(self.schema, decimal_comma=self.table.decimal_comma)

    def prepare(self, every: int, tick: Tick) -> int:
        if not self.marks.exist():
            self._unpack(tick)
            rows = itertools.count()
            self.marks.write(every, self._offsets(every, rows, tick), rows.__next__)
        return self.marks.count

    def read(self, first: int, count: int) -> Iterator[Records]:
        return together(self._each(first, count))

    def _each(self, first: int, count: int) -> Iterator[Record]:
        offset, row = self.marks.before(first)
        rows = self.table.rows(Place(offset, row))
        for cells in itertools.islice(rows, first - row, first - row + count):
            yield cells, self._item(cells)

    def head(self, count: int) -> Iterator[Record]:
        for cells in itertools.islice(self.table.rows(), count):
            yield cells, self._item(cells)

    def shown(self, raw: Any, item: Any) -> Any:
        return self.typed.item(dict(zip(self.table.columns, raw, strict=True)))

    def cells(self, raw: Any, item: Any) -> list[Any]:
        return list(raw)

    def _item(self, cells: list[str]) -> dict[str, Any]:
        item = self.typed.item(dict(zip(self.table.columns, cells, strict=True)))
        return {**self.common, **item} if self.common else item

    def _unpack(self, tick: Tick) -> None:
        with self.path.open("rb") as file:
            if file.read(len(GZIP)) != GZIP:
                return

        def unpack(aside: Path) -> None:
            with open_unpacked(self.path) as packed, aside.open("wb") as file:
                while piece := packed.read(PIECE):
                    file.write(piece)
                    tick()

        if not self.unpacked.exists():
            write_aside(self.unpacked, unpack)
        self.__dict__.pop("table", None)

    def _offsets(self, every: int, rows: Iterator[int], tick: Tick) -> Iterator[int]:
        # One step finer than asked, so that the rows are counted on the way.
        for place in self.table.places(1):
            if place.row % ROWS == 0:
                tick()
            if place.row:
                next(rows)
            if place.row % every == 0:
                yield place.offset
