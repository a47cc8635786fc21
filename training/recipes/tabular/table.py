"""A CSV file as rows of text; what is wrong with it is told by row and column."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from registry.errors import BadData

DELIMITERS = ",;\t|"
MAX_CELL = 10_000  # characters
MAX_LINE = 16 * 1024**2  # bytes
MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})


def is_missing(text: str) -> bool:
    """Whether a cell (without white space around it) says that there is no value."""
    return len(text) <= 4 and text.lower() in MISSING


def read_number(text: str, *, decimal_comma: bool = False) -> float | None:
    """The number that a cell holds, perhaps infinite, or None if it is not one."""
    if decimal_comma and text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class Table:
    """A CSV file, perhaps gzipped, and its header."""

    path: Path
    delimiter: str
    columns: tuple[str, ...]

    @property
    def decimal_comma(self) -> bool:
        return self.delimiter == ";"

    def rows(self) -> Iterator[list[str]]:
        """The cells of each row after the header, stripped; blank lines are passed over.

        Raises BadData for a wrong number of fields, bytes that are not UTF-8, or a huge cell.
        """
        with _open(self.path) as file:
            rows = _Rows(file, self.delimiter)
            next(rows)
            for cells in rows:
                if len(cells) != len(self.columns):
                    raise BadData(
                        f"there are {len(cells)} fields, "
                        f"but the header has {len(self.columns)}",
                        row=rows.row,
                    )
                if len(max(cells, key=len)) > MAX_CELL:
                    longest = max(range(len(cells)), key=lambda i: len(cells[i]))
                    raise BadData(
                        f"the cell has {len(cells[longest]):,} characters; "
                        f"{MAX_CELL:,} are allowed",
                        row=rows.row,
                        column=self.columns[longest],
                    )
                yield [cell.strip() for cell in cells]


def open_table(path: Path) -> Table:
    """The CSV file at `path`: delimiter (comma, semicolon, tab or bar) and column names.

    Raises BadData if it is empty or its header cannot be read.
    """
    with _open(path) as file:
        line = next(_lines(file), "")
    if not line.strip():
        raise BadData("the file is empty")
    if "\0" in line:
        raise BadData("the file is not a CSV file: it holds zero bytes")
    delimiter = max(DELIMITERS, key=lambda one: _width(line, one))
    with _open(path) as file:
        header = next(_Rows(file, delimiter))
    if len(max(header, key=len)) > MAX_CELL:
        raise BadData("the header holds a huge name")
    return Table(path, delimiter, tuple(name.strip() for name in header))


class _Rows(Iterator[list[str]]):
    """Rows of cells; `row` is the number of the last one, 0 for the header."""

    def __init__(self, file: IO[bytes], delimiter: str) -> None:
        self.row, self.line, self.delimiter = -1, "", delimiter
        self.lines = _lines(file)
        self.reader = csv.reader(self._kept(), delimiter=delimiter)

    def _kept(self) -> Iterator[str]:
        for line in self.lines:
            self.line = line
            yield line

    def __next__(self) -> list[str]:
        try:
            cells = next(self.reader)
            while not any(cell and not cell.isspace() for cell in cells[:1]) and (
                len(cells) < 2
            ):
                cells = next(self.reader)
        except csv.Error as error:
            raise BadData(self._reason(error), row=max(self.row + 1, 0)) from None
        except UnicodeDecodeError as error:
            raise BadData(
                f"the text is not UTF-8 (byte 0x{error.object[error.start]:02x})",
                row=max(self.row + 1, 0),
            ) from None
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise BadData("the gzip file is damaged", row=self.row + 1) from None
        self.row += 1
        return cells

    def _reason(self, error: csv.Error) -> str:
        if "field limit" not in str(error):
            return f"the line cannot be read: {error}"
        cells = self.line[: csv.field_size_limit()].count(self.delimiter) + 1
        return (
            f"field {cells} has more than {csv.field_size_limit():,} characters; "
            f"{MAX_CELL:,} are allowed (is a quote not closed?)"
        )


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if is_gzip else path.open("rb")


def _lines(file: IO[bytes]) -> Iterator[str]:
    encoding = "utf-8-sig"
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise BadData(f"a line is longer than {MAX_LINE:,} bytes")
        yield line.decode(encoding)
        encoding = "utf-8"


def _width(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter)))
    except csv.Error:
        return 0
