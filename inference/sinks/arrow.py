"""Results as Parquet: the item's columns in their own types, with the answer's beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from inference.sinks import Layout, Part, Results, Whole
from inference.sinks.jsonl import line
from inference.sinks.table import answer_cells
from inference.sources import Source
from inference.sources.arrow import Parquet as Origin
from registry import store

TYPES = {"number": "float64", "integer": "int64", "boolean": "bool", "string": "string"}


class Parquet:
    suffix = ".parquet"

    def __init__(self, source: Source, lay_out: Callable[[], Layout]) -> None:
        self.source, self._lay_out = source, lay_out

    @cached_property
    def layout(self) -> Layout:
        return self._lay_out()

    @cached_property
    def schema(self) -> Any:
        import pyarrow

        layout = self.layout
        before = [("int64")] * (2 if layout.is_ranked else 1)
        if isinstance(self.source, Origin):
            given = [one.type for one in self.source.schema]
        else:
            given = ["string"] * len(layout.given)
        outputs = [_type(one) for one in layout.outputs.values()] or ["string"]
        types = [*before, *given, "bool", *outputs, "string", "string"]
        return pyarrow.schema(list(zip(layout.names, map(_known, types), strict=True)))

    def piece(self, results: Results) -> Any:
        import pyarrow

        columns: list[Any] = [] if results.ranks is None else [list(results.ranks)]
        columns.append(list(results.rows))
        after = [answer_cells(one, self.layout.outputs) for one in results.answers]
        columns += [*self._given(results), *map(list, zip(*after, strict=True))]
        types = [one.type for one in self.schema]
        return pyarrow.table(
            [_column(c, t) for c, t in zip(columns, types, strict=True)],
            schema=self.schema,
        )

    def part(self, path: Path) -> Part:
        return Tables(path, self.schema)

    def whole(self, path: Path) -> Whole:
        return Tables(path, self.schema)

    def _given(self, results: Results) -> list[Any]:
        if isinstance(self.source, Origin):
            rows = self.source.rows(list(results.raws))
            return [rows.column(n) for n in range(rows.num_columns)]
        both = zip(results.raws, results.items, strict=True)
        rows = [self.source.cells(raw, item) for raw, item in both]
        return [list(column) for column in zip(*rows, strict=True)]


class Tables:
    """A Parquet file of tables."""

    def __init__(self, path: Path, schema: Any) -> None:
        from pyarrow import parquet

        self.path, self.writer = path, parquet.ParquetWriter(path, schema)

    def put(self, piece: Any) -> None:
        self.writer.write_table(piece)

    def append(self, part: Path) -> None:
        from pyarrow import parquet

        self.put(parquet.read_table(part, partitioning=None))

    def close(self) -> None:
        self.writer.close()
        store.sync(self.path)

    def drop(self) -> None:
        self.writer.close()


def _type(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    return TYPES.get(kind, "string") if isinstance(kind, str) else "string"


def _known(kind: Any) -> Any:
    import pyarrow

    return pyarrow.type_for_alias(kind) if isinstance(kind, str) else kind


def _column(values: Any, kind: Any) -> Any:
    """The values in that type; in a column of texts what is none becomes JSON."""
    import pyarrow

    if not isinstance(values, list):
        return values
    if pyarrow.types.is_string(kind):
        values = [
            one if one is None or isinstance(one, str) else line(one).decode().strip()
            for one in values
        ]
    elif pyarrow.types.is_integer(kind):
        values = [int(one) if isinstance(one, float) else one for one in values]
    return pyarrow.array(values, kind)
