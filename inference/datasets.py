"""Items of a batch from an upload: a row of CSV or a line of JSON each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inference.serializers import MOST_IN_BATCH
from registry import sniff, uploads
from registry.dialect import Table, open_table, read_number
from registry.errors import BadData, Problem
from registry.models import Upload

NUMBERS = {"number", "integer"}


class Items(list[dict[str, Any]]):
    """Items as they stand in a file; `decimal_comma` says how its texts write numbers."""

    decimal_comma = False


def rows(dataset: str, user: Any) -> Items:
    """The items of a sealed upload of that user's.

    Raises Problem `unknown_dataset`, `dataset_not_ready`, `bad_data`, `too_many_items`.
    """
    mine = Upload.objects.all() if user.is_staff else Upload.objects.filter(owner=user)
    is_id = dataset.isascii() and dataset.isdigit() and len(dataset) <= 18
    upload = mine.filter(pk=int(dataset)).first() if is_id else None
    if upload is None:
        text = f"there is no upload {dataset[:60]!r} of yours"
        raise Problem("unknown_dataset", f"{text}.", errors={"dataset": [text]})
    if upload.state != Upload.State.SEALED:
        text = f"The upload is {upload.state}; wait until it is sealed."
        raise Problem("dataset_not_ready", text, retry_after=1)
    try:
        path = uploads.dataset_path(upload)
        return read_items(path, upload.filename, most=MOST_IN_BATCH)
    except FileNotFoundError:
        raise Problem("unknown_dataset", "The upload's file is gone.") from None


def read_items(path: Path, filename: str, *, most: int | None = None) -> Items:
    """The items of a CSV file (perhaps gzipped) or JSON lines, as its name says.

    Raises BadData, OSError, and Problem `too_many_items` for more than `most`.
    """
    items = Items()
    layout = _layout(filename)
    if layout == "csv":
        table = open_table(path)
        items.decimal_comma = table.decimal_comma
    found = _csv(table) if layout == "csv" else _jsonl(path)
    for item in found:
        items.append(item)
        if most is not None and len(items) > most:
            text = f"it has more than {most:,} rows"
            raise Problem("too_many_items", f"{text}.", errors={"dataset": [text]})
    if not items:
        raise BadData("it has no rows")
    return items


def typed(items: Items, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items with texts as numbers where the schema has numbers; empty texts left out."""
    properties = schema.get("properties") or {}
    numbers = {name for name, one in properties.items() if _types(one) & NUMBERS}
    return [
        {
            name: _number(value, items.decimal_comma) if name in numbers else value
            for name, value in item.items()
            if value != ""
        }
        for item in items
    ]


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


def _number(value: Any, decimal_comma: bool) -> Any:
    if not isinstance(value, str):
        return value
    number = read_number(value, decimal_comma=decimal_comma)
    return value if number is None or not math.isfinite(number) else number


def _types(schema: Any) -> set[str]:
    types = schema.get("type", []) if isinstance(schema, Mapping) else []
    return {types} if isinstance(types, str) else set(types)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
