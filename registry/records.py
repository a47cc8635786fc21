"""JSON Lines and the text formats of chemistry: records one after another."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from registry import plain
from registry.errors import BadData
from registry.lines import MAX_COLUMNS, PREVIEW, Findings, Lines, shown


def inspect_jsonl(lines: Lines) -> Findings:
    """Check that each line is a JSON object. Raises BadData."""
    found, columns = Findings(), dict[str, None]()
    for line in lines:
        if not line.strip():
            continue
        row = lines.row + 1
        if lines.fault:
            raise BadData("the text is not UTF-8, or holds a zero byte", row=row)
        try:
            value = json.loads(line, parse_constant=_no_number, parse_float=_finite)
        except RecursionError:
            raise BadData("the JSON is nested too deep", row=row) from None
        except ValueError as error:
            text = f"the line is not JSON: {plain.why(error)}"
            raise BadData(text, row=row) from None
        if not isinstance(value, dict):
            raise BadData("the line is not a JSON object", row=row)
        columns |= dict.fromkeys(shown(name) for name in value)
        if len(columns) > MAX_COLUMNS:
            raise BadData(f"there are more than {MAX_COLUMNS:,} names", row=row)
        if row <= PREVIEW:
            found.preview.append(
                {shown(name): _json_shown(one) for name, one in value.items()}
            )
        lines.next_row()
    if not lines.row:
        raise BadData("the file is empty")
    found.rows, found.columns = lines.row, list(columns)
    return found


def records(
    is_record: Callable[[str], bool], missing: str
) -> Callable[[Lines], Findings]:
    """A check of plain text that counts the lines which stand for one record each."""

    def check(lines: Lines) -> Findings:
        rows = 0
        for line in lines:
            lines.next_row()
            if lines.fault:
                raise BadData(f"line {lines.row:,} is not UTF-8 text")
            rows += is_record(line)
        if not rows:
            raise BadData(missing)
        return Findings(rows=rows)

    return check


def inspect_fasta(lines: Lines) -> Findings:
    """Check that it is text and begins with a header; rows are sequences. Raises BadData."""
    first = lines.peek()
    if not lines.fault and first.strip() and not first.startswith((">", ";")):
        raise BadData("a FASTA file begins with a line that starts with >")
    return records(lambda line: line.startswith(">"), "there is no line with >")(lines)


def _json_shown(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return shown(value if isinstance(value, str) else json.dumps(value))


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
