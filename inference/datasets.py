"""Items for `manage.py predict`: of the same files that batches take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inference.given import layout_of, sides
from inference.sources.arrow import Parquet
from inference.sources.lines import Fasta, Smiles
from inference.texts import Typed
from registry import store
from registry.dialect import Table, open_table
from registry.errors import BadData

ROWS = 4096  # of a Parquet file in one part
OWN = {"smi": (Smiles, "ligand"), "fasta": (Fasta, "protein")}


class Items(list[dict[str, Any]]):
    """Items as they stand in a file; `decimal_comma` says how its texts write numbers.

    Of a list of molecules or sequences the items have one field, which the side names.
    """

    decimal_comma = False
    side: str | None = None


def read_items(path: Path, filename: str) -> Items:
    """The items of a file, of the layout that its name says.

    Raises BadData and OSError.
    """
    items = Items()
    layout = layout_of(filename)
    if layout == "csv":
        table = open_table(path)
        items.decimal_comma = table.decimal_comma
        found = _csv(table)
    elif layout == "jsonl":
        found = _jsonl(path)
    elif layout == "parquet":
        found = _parquet(path)
    else:
        kind, items.side = OWN[layout]
        source = kind(path, path.parent, items.side)
        found = (item for _, item in source.head(None))
    items.extend(found)
    if not items:
        raise BadData("it has no rows")
    return items


def typed(
    items: Items, schema: Mapping[str, Any], common: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The items with texts as numbers where the schema has numbers; empty texts left out.

    `common` is the ligand or protein of every item. Raises BadData if the schema has none.
    """
    one = Typed(schema, decimal_comma=items.decimal_comma)
    names = sides(schema)
    for side in (items.side, *common):
        if side is not None and names[side] is None:
            raise BadData(f"the model's items have no {side}")
    added = {str(names[side]): value for side, value in common.items()}
    if items.side is not None:
        name = str(names[items.side])
        return [{**added, name: item[items.side]} for item in items]
    return [{**added, **one.item(item)} for item in items]


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    home = store.aside()
    try:
        source = Parquet(path, home, Typed({}), {})
        count = source.prepare(ROWS, lambda: None)
        for _, items in source.read(0, count):
            yield from items
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _csv(table: Table) -> Iterator[dict[str, Any]]:
    if len(set(table.columns)) != len(table.columns):
        raise BadData("the header has a name twice")
    for cells in table.rows():
        yield dict(zip(table.columns, cells, strict=True))


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _object(line, number)
        except UnicodeDecodeError:
            raise BadData("it is not UTF-8") from None


def _object(line: str, row: int) -> dict[str, Any]:
    try:
        item = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadData(f"it is no JSON: {error}", row=row) from None
    if not isinstance(item, dict):
        raise BadData("it is no JSON object", row=row)
    return item


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
