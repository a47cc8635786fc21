"""Where the items of a batch stand, and how each part of them is read in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from inference.texts import Typed
from registry import store

Tick = Callable[[], object]  # called again and again in long work; may raise
Record = tuple[Any, Any]  # as it stands in the file, and as an item or a Problem
Records = tuple[list[Any], list[Any]]  # the ones and the others of some
AT_ONCE = 256  # records


class Source(Protocol):
    """Items by row, from 0; `columns` names what a record has, None if each has its own."""

    @property
    def columns(self) -> tuple[str, ...] | None: ...

    @property
    def delimiter(self) -> str: ...

    def prepare(self, every: int, tick: Tick) -> int:
        """Note where each `every` rows begin, once for all workers; the number of rows.

        Raises BadData.
        """

    def read(self, first: int, count: int) -> Iterator[Records]:
        """The records of these rows, after `prepare`, some at a time. `first` is a multiple of
        `every`, or read slowly. Raises BadData."""

    def head(self, count: int) -> Iterator[Record]:
        """The first records, without `prepare`. Raises BadData."""

    def shown(self, raw: Any, item: Any) -> Any:
        """What results in JSON tell of the record."""

    def cells(self, raw: Any, item: Any) -> list[Any]:
        """What results in a table tell of it, one value a column."""


def open_source(
    task: int, params: Mapping[str, Any], schema: Mapping[str, Any]
) -> Source:
    """The source that a task's parameters name; `schema` is of the model's items.

    Raises BadData, OSError.
    """
    from inference.sources import arrow, jsonl, lines, product, table

    home = store.task_path(task)
    about: dict[str, Any] = params.get("source") or {"layout": "inline"}
    layout, typed, count = about["layout"], Typed(schema), params.get("count", 0)
    if layout == "inline":
        path = home / "items.jsonl"
        return jsonl.JsonLines(path, home, typed, expected=count, is_plain=True)
    path = store.object_path(about["sha256"])
    common: dict[str, Any] = about.get("common") or {}
    if layout == "jsonl":
        return jsonl.JsonLines(path, home, typed, common, expected=count)
    if layout == "csv":
        return table.Csv(path, home, schema, common)
    if layout == "parquet":
        return arrow.Parquet(path, home, typed, common)
    names = about["names"]
    if layout == "product":
        proteins = lines.Fasta(
            store.object_path(about["proteins"]), home, names[1], {}, "proteins"
        )
        ligands = lines.Smiles(path, home, names[0])
        return product.Product(proteins, ligands)
    if layout == "fasta":
        return lines.Fasta(path, home, names[1], common)
    return lines.Smiles(path, home, names[0], common)


def together(records: Iterator[Record]) -> Iterator[Records]:
    """The same, some at a time."""
    while some := list(islice(records, AT_ONCE)):
        yield [raw for raw, _ in some], [item for _, item in some]


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make the file aside, then put it whole into its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = store.aside(path.suffix)
    try:
        write(aside)
        store.sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
