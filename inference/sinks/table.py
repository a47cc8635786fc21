"""Results as CSV: the item's columns as they were given, with the answer's beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from inference.sinks import Layout, Part, Results, Whole
from inference.sinks.files import Bytes, Joined
from inference.sinks.jsonl import line
from inference.sources import Source


class Csv:
    """The delimiter is the item's file's; numbers have a decimal point."""

    suffix = ".csv"

    def __init__(self, source: Source, lay_out: Callable[[], Layout]) -> None:
        self.source, self._lay_out = source, lay_out

    @cached_property
    def layout(self) -> Layout:
        return self._lay_out()

    def piece(self, results: Results) -> list[bytes]:
        cells = self.source.cells
        lines = []
        for at, row in enumerate(results.rows):
            answer = results.answers[at]
            given = cells(results.raws[at], results.items[at])
            before = [row] if results.ranks is None else [results.ranks[at], row]
            after = answer_cells(answer, self.layout.outputs)
            lines.append([_text(one) for one in (*before, *given, *after)])
        return [self._written(lines)]

    def part(self, path: Path) -> Part:
        return Bytes(path)

    def whole(self, path: Path) -> Whole:
        return Joined(path, self._written([self.layout.names]))

    def _written(self, lines: Sequence[Sequence[Any]]) -> bytes:
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter=self.source.delimiter, lineterminator="\n")
        writer.writerows(lines)
        return out.getvalue().encode("utf-8", "replace")


def answer_cells(answer: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[Any]:
    """Success, the outputs, code and sentence of the error; None where there is nothing."""
    error = answer.get("error")
    if isinstance(error, dict):
        return [False, *[None] * max(1, len(outputs)), error["code"], error["detail"]]
    values = [answer.get(one) for one in outputs] if outputs else [answer]
    return [True, *values, None, None]


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return line(value).decode().rstrip("\n")
    return "" if value is None else value
