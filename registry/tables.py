"""CSV files: a header, then rows of as many cells, all of it UTF-8."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from registry.errors import BadData
from registry.lines import MAX_COLUMNS, MAX_ROW, PREVIEW, Findings, Lines, shown

DELIMITERS = ",;\t|"
MAX_CELL = 128 * 1024  # characters
MAX_NAME = 1000  # characters of a column's name

csv.field_size_limit(MAX_ROW)  # the row is held to MAX_ROW before, the cell after


def inspect_csv(lines: Lines) -> Findings:
    """Check the header and every row. Raises BadData."""
    delimiter = _delimiter(lines.peek())
    rows = _rows(csv.reader(lines, delimiter=delimiter, strict=True), lines)
    lines.row = -1  # the header is row 0
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


def _rows(reader: Iterable[list[str]], lines: Lines) -> Iterator[list[str]]:
    """The rows that are not blank lines."""
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield cells
    except csv.Error as error:
        text = "a quote is not closed" if "end of data" in str(error) else str(error)
        row = max(lines.row + 1, 0)
        raise BadData(f"the line cannot be read: {text}", row=row) from None


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


def _delimiter(line: str) -> str:
    """The one that gives the header the most columns; the comma if none does."""

    def width(one: str) -> int:
        try:
            return len(next(csv.reader([line], delimiter=one), []))
        except csv.Error:
            return 0

    return max(DELIMITERS, key=width)


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
