"""Items for `manage.py predict`: a row of CSV or a line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inference.texts import Typed
from registry import sniff
from registry.dialect import Table, open_table
from registry.errors import BadData, Problem


class Items(list[dict[str, Any]]):
    """Items as they stand in a file; `decimal_comma` says how its texts write numbers."""

    decimal_comma = False


def read_items(path: Path, filename: str) -> Items:
    """The items of a CSV file (perhaps gzipped) or JSON lines, as its name says.

    Raises BadData and OSError.
    """
    items = Items()
    layout = _layout(filename)
    if layout == "csv":
        table = open_table(path)
        items.decimal_comma = table.decimal_comma
    found = _csv(table) if layout == "csv" else _jsonl(path)
    items.extend(found)
    if not items:
        raise BadData("it has no rows")
    return items


def typed(items: Items, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items with texts as numbers where the schema has numbers; empty texts left out."""
    one = Typed(schema, decimal_comma=items.decimal_comma)
    return [one.item(item) for item in items]


def _layout(filename: str) -> str:
    try:
        kind = sniff.type_of(filename)
    except Problem:
        label = "of an unknown type"
    else:
        if kind.layout in ("csv", "jsonl"):
            return kind.layout
        label = kind.label
    text = "items are read from .csv, .csv.gz and .jsonl only"
    raise BadData(f"{filename} is {label}; {text}")


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
