"""JSON values, one a line, as items."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from inference.sources import Record, Records, Tick
from inference.sources.lines import BOM, NOTHING, Lines
from inference.texts import Typed
from registry import plain
from registry.errors import BadItem, Problem

BLOCK = (
    64 * 1024
)  # bytes that are read, decoded and encoded at once, in the processor's cache
SCANNED = 256 * 1024  # bytes that are read at once to find where lines begin
NEWLINE = 10


class Odd(bytes):
    """A line that cannot stand in a line of results as it is."""


class JsonLines(Lines):
    """A JSON value a line; `expected` is how many there are. `is_plain` lines are items as their
    sender gave them."""

    def __init__(
        self,
        path: Path,
        home: Path,
        typed: Typed,
        common: Mapping[str, Any] = NOTHING,
        *,
        expected: int = 0,
        is_plain: bool = False,
    ) -> None:
        super().__init__(path, home, common)
        self.typed, self.expected, self.is_plain = typed, expected, is_plain

    def shown(self, raw: Any, item: Any) -> Any:
        if isinstance(item, Problem):
            return raw.strip().decode(errors="replace")
        return orjson.Fragment(raw) if type(raw) is bytes else json.loads(raw)

    def cells(self, raw: Any, item: Any) -> list[Any]:
        return [raw.strip().decode(errors="replace")]

    def _offsets(self, every: int, count: Iterator[int], tick: Tick) -> Iterator[int]:
        offsets, lines = self._by_blocks(every, tick)
        if lines != self.expected:  # there are empty lines
            return super()._offsets(every, count, tick)
        next(itertools.islice(count, lines - 1, None), None)
        return iter(offsets)

    def _by_blocks(self, every: int, tick: Tick) -> tuple[list[int], int]:
        """The offset of each `every` lines, and the number of lines, empty or not."""
        block = np.empty(SCANNED, np.uint8)
        ends, last = 0, NEWLINE  # line ends so far, and the last byte
        with self.path.open("rb", buffering=0) as file:
            offset = _skip_mark(file)
            offsets = [offset]
            while size := file.readinto(block.data):
                tick()
                is_end = block[:size] == NEWLINE
                some = int(np.count_nonzero(is_end))
                to_next = every - ends % every
                if some >= to_next:
                    found = np.flatnonzero(is_end)[to_next - 1 :: every]
                    offsets += (found + (offset + 1)).tolist()
                ends, offset, last = ends + some, offset + size, int(block[size - 1])
        if offsets[-1] == offset:  # no line begins at the end of the file
            offsets.pop()
        return offsets, ends + (last != NEWLINE)

    def read(self, first: int, count: int) -> Iterator[Records]:
        offset, record = self.marks.before(first)
        skipped = first - record
        with self.path.open("rb") as file:
            file.seek(offset)
            for lines, values in self._blocks(file):
                if skipped or len(lines) > count:
                    part = slice(skipped, skipped + count)
                    skipped = max(0, skipped - len(lines))
                    lines, values = lines[part], values[part]
                yield lines, values
                count -= len(lines)
                if not count:
                    return

    def _records(self, file: IO[bytes]) -> Iterator[Record]:
        for lines, values in self._blocks(file):
            yield from zip(lines, values, strict=True)

    def _blocks(self, file: IO[bytes]) -> Iterator[Records]:
        for lines, has_returns in _lines(file):
            lines, values = _decoded(lines)
            if not self.is_plain:
                values = self._items(values)
            if has_returns:
                lines = [line.rstrip(b"\r") for line in lines]
                lines = [Odd(line) if b"\r" in line else line for line in lines]
            yield lines, values

    def _items(self, values: list[Any]) -> list[Any]:
        if self.typed.numbers or self.common:
            return [self._item(value) for value in values]
        return [
            value
            if type(value) is dict and "" not in value.values()
            else self._item(value)
            for value in values
        ]

    def _item(self, value: Any) -> Any:
        if type(value) is not dict:
            text = "An item must be an object with named values."
            return value if isinstance(value, BadItem) else BadItem(text)
        if self.typed.has_texts(value):
            value = self.typed.item(value)
        return {**self.common, **value} if self.common else value


def _lines(file: IO[bytes]) -> Iterator[tuple[list[bytes], bool]]:
    """Some lines at a time without their ends, and whether a carriage return is in them."""
    rest = b""
    while block := file.read(BLOCK):
        lines = block.split(b"\n")
        if len(lines) == 1:
            lines = [block + file.readline().removesuffix(b"\n"), b""]
        lines[0] = rest + lines[0]
        rest = lines.pop()
        yield lines, b"\r" in block or b"\r" in lines[0]
    if rest:
        yield [rest], b"\r" in rest


def _decoded(lines: list[bytes]) -> tuple[list[bytes], list[Any]]:
    """The lines that are not empty, and their values."""
    loads = orjson.loads
    try:
        return lines, [loads(line) for line in lines]
    except ValueError:  # some are empty, or hold what orjson does not read
        lines = [line for line in lines if line and not line.isspace()]
        return lines, [_value(line) for line in lines]


def _skip_mark(file: IO[bytes]) -> int:
    """The bytes of a byte order mark at the beginning; the file stands behind it."""
    offset = len(BOM) if file.read(len(BOM)) == BOM else 0
    file.seek(offset)
    return offset


def _value(line: bytes) -> Any:
    """What a line holds that is no JSON of the quick kind; a BadItem if it is none at all."""
    try:
        return json.loads(line, parse_constant=_refuse)
    except RecursionError:
        return BadItem("The line is no JSON: it is nested too deep.")
    except ValueError as error:
        return BadItem(f"The line is no JSON: {plain.why(error)}"[:200])


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
