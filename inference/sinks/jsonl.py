"""Results as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from orjson import dumps

from inference.forms import Form
from inference.sinks import Part, Results, Whole
from inference.sinks.files import Bytes, Joined
from inference.sources import Source

OPTIONS = orjson.OPT_APPEND_NEWLINE


class JsonLines:
    """A line holds the row, the item as it was given, and its output or error."""

    suffix = ".jsonl"

    def __init__(self, source: Source, form: Form) -> None:
        self.source, self.form = source, form

    def piece(self, results: Results) -> bytes:
        shown, result = self.source.shown, self.form.result
        both = zip(
            results.rows, results.raws, results.items, results.answers, strict=True
        )
        found = [
            result(row, shown(raw, item), item, answer)
            for row, raw, item, answer in both
        ]
        if results.ranks is not None:
            pairs = zip(results.ranks, found, strict=True)
            found = [{"rank": rank, **one} for rank, one in pairs]
        return lines(found)

    def part(self, path: Path) -> Part:
        return Bytes(path)

    def whole(self, path: Path) -> Whole:
        return Joined(path)


def lines(values: Sequence[Any]) -> bytes:
    """A line each of JSON in ASCII, so that no separator of lines stands inside one."""
    try:
        found = b"".join([dumps(one, str, OPTIONS) for one in values])
    except TypeError:  # one of them is not for orjson
        return b"".join(map(_line, values))
    return found if found.isascii() else b"".join(map(_line, values))


def line(value: Any) -> bytes:
    return lines([value])


def _line(value: Any) -> bytes:
    try:
        found: bytes = dumps(value, str, OPTIONS)
        if found.isascii():
            return found
    except TypeError:  # a whole number beyond 64 bits, half a character
        pass
    text = json.dumps(value, separators=(",", ":"), default=_plain)
    return text.encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, orjson.Fragment):
        return json.loads(orjson.dumps(value))
    return str(value)
