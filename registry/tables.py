"""CSV files: a header, then rows of as many cells, all of it UTF-8."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from registry.dialect import MAX_CELL, find_delimiter, reason, split
from registry.errors import BadData
from registry.lines import MAX_COLUMNS, PREVIEW, Findings, Lines, shown

MAX_NAME = 1000  # characters of a column's name


def inspect_csv(lines: Lines) -> Findings:
    """Check the header and every row. Raises BadData."""
    lines.row = -1  # the header is row 0
    delimiter = find_delimiter(lines)
    lines.size, lines.fault = 0, False  # they come again
    rows = _rows(lines, delimiter)
    header = next(rows, None)
    if header is None:
        raise BadData("the file is empty")
    columns = _header(header, lines)
    lines.next_row()
    found, width = Findings(columns=columns), len(columns)
    for cells in rows:
        if lines.fault:
            raise _fault(cells, columns, lines.row + 1)
        if len(cells) != width:
            raise BadData(
                f"there are {len(cells)} fields, but the header has {width}",
                row=lines.row + 1,
            )
        if lines.size > MAX_CELL:
            _check_sizes(cells, columns, lines.row + 1)
        if lines.row < PREVIEW:
            texts = [shown(cell) for cell in cells]
            found.preview.append(dict(zip(columns, texts, strict=True)))
        lines.row, lines.size = lines.row + 1, 0
    if lines.row == 0:
        raise BadData("the file has a header, but no rows")
    found.rows = lines.row
    return found


def _rows(lines: Lines, delimiter: str) -> Iterator[list[str]]:
    try:
        yield from split(lines, delimiter)
    except csv.Error as error:
        raise BadData(reason(error), row=max(lines.row + 1, 0)) from None


def _header(cells: list[str], lines: Lines) -> list[str]:
    if lines.fault:
        raise BadData("the header is not UTF-8 text")
    names = [cell.strip() for cell in cells]
    if len(names) > MAX_COLUMNS:
        raise BadData(f"there are {len(names):,} columns; {MAX_COLUMNS:,} are allowed")
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name:
            raise BadData(f"column {number} of the header has no name")
        if len(name) > MAX_NAME:
            raise BadData(f"the name of column {number} is too long")
        if name in seen:
            raise BadData(f"the header names the column {name[:100]!r} twice")
        seen.add(name)
    return names


def _fault(cells: list[str], columns: list[str], row: int) -> BadData:
    for index, cell in enumerate(cells):
        name = columns[index] if index < len(columns) else None
        if "\0" in cell:
            return BadData("the cell holds a zero byte", row=row, column=name)
        for char in cell:
            if "\udc80" <= char <= "\udcff":
                byte = ord(char) - 0xDC00
                text = f"the text is not UTF-8 (byte 0x{byte:02x})"
                return BadData(text, row=row, column=name)
    return BadData("the text is not UTF-8", row=row)


def _check_sizes(cells: list[str], columns: list[str], row: int) -> None:
    for name, cell in zip(columns, cells, strict=True):
        if len(cell) > MAX_CELL:
            text = f"the cell has {len(cell):,} characters; {MAX_CELL:,} are allowed"
            raise BadData(text, row=row, column=name)
