"""Items of a batch from an upload: a row of CSV or a line of JSON each."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from inference.serializers import MOST_IN_BATCH
from registry import store
from registry.errors import BadData, Problem
from registry.models import Upload

NUMBERS = {"number", "integer"}
LONGEST_CELL = 128 * 1024  # characters


def rows(dataset: str, user: Any) -> list[dict[str, Any]]:
    """The items of a sealed upload of that user's, texts as they stand in a CSV.

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
    reader = READERS.get(Path(upload.filename).suffix.lower())
    if reader is None:
        raise BadData(f"{upload.filename} is neither .csv nor .jsonl")
    items: list[dict[str, Any]] = []
    try:
        path = store.object_path(upload.sha256)
        with path.open(encoding="utf-8-sig", newline="") as file:
            for item in reader(file):
                items.append(item)
                if len(items) > MOST_IN_BATCH:
                    text = f"it has more than {MOST_IN_BATCH:,} rows"
                    raise Problem(
                        "too_many_items", f"{text}.", errors={"dataset": [text]}
                    )
    except UnicodeDecodeError:
        raise BadData("it is not UTF-8") from None
    except FileNotFoundError:
        raise Problem("unknown_dataset", "The upload's file is gone.") from None
    if not items:
        raise BadData("it has no rows")
    return items


def typed(
    items: list[dict[str, Any]], schema: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The items with texts as numbers where the schema has numbers; empty texts left out."""
    properties = schema.get("properties") or {}
    numbers = {name for name, one in properties.items() if _types(one) & NUMBERS}
    return [
        {
            name: _number(value) if name in numbers else value
            for name, value in item.items()
            if value != ""
        }
        for item in items
    ]


def _csv(file: TextIO) -> Iterator[dict[str, Any]]:
    lines = csv.reader(file, strict=True)
    number = 0
    try:
        header = next(lines, [])
        if len(set(header)) != len(header):
            raise BadData("the header has a name twice")
        for number, cells in enumerate(lines, start=1):
            if not cells:
                continue
            if len(cells) != len(header):
                text = f"it has {len(cells)} fields and the header {len(header)}"
                raise BadData(text, row=number)
            for name, cell in zip(header, cells, strict=True):
                if len(cell) > LONGEST_CELL:
                    text = (
                        f"{len(cell):,} characters; at most {LONGEST_CELL:,} are read"
                    )
                    raise BadData(text, row=number, column=name[:100])
            yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise BadData(f"it is no CSV: {error}", row=number + 1) from None


def _jsonl(file: TextIO) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise BadData(f"it is no JSON: {error}", row=number) from None
        if not isinstance(item, dict):
            raise BadData("it is no JSON object", row=number)
        yield item


READERS = {".csv": _csv, ".jsonl": _jsonl}


def _number(value: Any) -> Any:
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return value
    if isinstance(number, float) and not math.isfinite(number):
        return value
    return number


def _types(schema: Any) -> set[str]:
    types = schema.get("type", []) if isinstance(schema, Mapping) else []
    return {types} if isinstance(types, str) else set(types)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
