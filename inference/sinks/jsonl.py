"""Results as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import orjson
from orjson import dumps

from inference.forms import PLAIN, Form
from inference.sinks import Part, Results, Whole
from inference.sinks.files import Bytes, Joined
from inference.sources import Source
from inference.texts import ID
from registry.errors import Problem

OPTIONS = orjson.OPT_APPEND_NEWLINE
AT_ONCE = 128  # lines, so that what is copied is in the processor's cache
HEAD, TAIL = b'{"row":%d,%b"input":', b',"success":true,"output":%b}}\n'
BETWEEN = b"},"  # two objects of a list


class JsonLines:
    """A line holds the row, the item as it was given, and its output or error."""

    suffix = ".jsonl"

    def __init__(self, source: Source, form: Form) -> None:
        from inference.sources import jsonl  # which needs numpy, as a line does not

        self.source, self.form = source, form
        self.is_plain = form is PLAIN and isinstance(source, jsonl.JsonLines)

    def piece(self, results: Results) -> list[bytes]:
        parts = [
            results.part(slice(at, at + AT_ONCE))
            for at in range(0, len(results.rows), AT_ONCE)
        ]
        return [self._as_given(one) or lines(self._told(one)) for one in parts]

    def part(self, path: Path) -> Part:
        return Bytes(path)

    def whole(self, path: Path) -> Whole:
        return Joined(path)

    def _told(self, results: Results) -> list[dict[str, Any]]:
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
        return found

    def _as_given(self, results: Results) -> bytes:
        """The same, made of a record as it stands in its file; empty if one cannot."""
        raws, items = results.raws, results.items
        if not self.is_plain or results.ranks is not None:
            return b""
        kinds = set(map(type, items))
        if set(map(type, raws)) != {bytes} or any(
            issubclass(k, Problem) for k in kinds
        ):
            return b""
        try:
            outputs = _each(results.answers)
            names = _names(items)
        except TypeError:  # one of them is not for orjson
            return b""
        if not outputs:
            return b""
        found: list[bytes] = []
        both = zip(results.rows, names, raws, outputs, strict=True)
        for row, name, raw, output in both:
            found += (HEAD % (row, name), raw, TAIL % output)
        text = b"".join(found)
        return text if text.isascii() else b""


def _names(items: Sequence[Any]) -> Iterable[bytes]:
    if set(map(type, items)) == {type(None)}:
        return repeat(b"", len(items))
    return [
        b'"id":%b,' % dumps(one[ID], str) if type(one) is dict and ID in one else b""
        for one in items
    ]


def _each(answers: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Each output as JSON without its last brace; nothing if there is an error among them."""
    text = dumps(answers, str)
    if b'"error"' in text and any("error" in one for one in answers):
        return []
    parts = text[1:-2].split(BETWEEN)
    if len(parts) == len(answers):  # so none stands inside one of them
        return parts
    return [dumps(one, str)[:-1] for one in answers]


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
