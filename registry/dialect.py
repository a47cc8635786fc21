"""How a CSV file is read, in sealing, in training and in predicting alike; needs no Django.

UTF-8, perhaps with a byte order mark, perhaps gzipped; comma, semicolon, tab or bar between
fields, the semicolon with decimal commas; lines that are empty or blank are passed over.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from registry.errors import BadData
from registry.lines import MAX_ROW

DELIMITERS = ",;\t|"
MAX_CELL = 128 * 1024  # characters
GZIP = b"\x1f\x8b"
HEAD = 1024**2  # characters in which a header of several lines must end


def find_delimiter(lines: Iterable[str]) -> str:
    """The one that gives the header the most columns; the comma if none does."""
    source, head, size = iter(lines), list[str](), 0

    def again() -> Iterator[str]:
        nonlocal size
        yield from tuple(head)
        while size < HEAD and (line := next(source, None)) is not None:
            if head or line.strip():
                head.append(line)
                size += len(line)
                yield line

    def width(delimiter: str) -> int:
        try:
            return len(next(split(again(), delimiter), []))
        except csv.Error:
            return 0

    return max(DELIMITERS, key=width)


def split(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """The cells of each row that is not blank. Raises csv.Error; see `reason`.

    A row is held to MAX_ROW by whoever gives the lines, a cell to its size by whoever reads it.
    """
    # The limit is one for the whole process, and anybody may have set it lower.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW))
    for cells in csv.reader(lines, delimiter=delimiter, strict=True):
        if len(cells) > 1 or (cells and cells[0].strip()):
            yield cells


def reason(error: csv.Error) -> str:
    """What is wrong with a line, in words."""
    text = str(error)
    shown = "a quote is not closed" if "end of data" in text else text
    return f"the line cannot be read: {shown}"


def has_decimal_commas(delimiter: str) -> bool:
    """Whether numbers may be written as 1,5 between fields that are parted so."""
    return delimiter == ";"


def read_number(text: str, *, decimal_comma: bool = False) -> float | None:
    """The number that a cell holds, perhaps infinite or NaN, or None if it is not one."""
    if decimal_comma and text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class Place:
    """Between two rows of a file: bytes before it, and rows after the header."""

    offset: int
    row: int


@dataclass(frozen=True)
class Table:
    """A CSV file and its header; a cell has at most `longest` characters."""

    path: Path
    delimiter: str
    columns: tuple[str, ...]
    longest: int = MAX_CELL

    @property
    def decimal_comma(self) -> bool:
        return has_decimal_commas(self.delimiter)

    def rows(self, place: Place | None = None) -> Iterator[list[str]]:
        """The cells of each row after the header, or from a place on, without white space
        around them.

        Raises BadData with the row: a wrong number of fields, no UTF-8, a huge cell.
        """
        with open_unpacked(self.path) as file:
            reader = _Reader(file)
            if place is None:
                rows = reader.rows(self.delimiter)
                next(rows, None)
            else:
                file.seek(place.offset)
                reader.row = place.row
                rows = reader.rows(self.delimiter)
            for cells in rows:
                if len(cells) != len(self.columns):
                    raise reader.bad(
                        f"there are {len(cells)} fields, "
                        f"but the header has {len(self.columns)}"
                    )
                if reader.size > self.longest:
                    self._check_sizes(cells, reader.row)
                yield [cell.strip() for cell in cells]

    def places(self, every: int) -> Iterator[Place]:
        """Where the first row after the header begins, and each `every` rows later."""
        with open_unpacked(self.path) as file:
            reader = _Reader(file)
            for _ in reader.rows(self.delimiter):
                if reader.row % every == 0:
                    yield Place(file.tell(), reader.row)

    def _check_sizes(self, cells: list[str], row: int) -> None:
        for name, cell in zip(self.columns, cells, strict=True):
            if len(cell) > self.longest:
                text = (
                    f"the cell has {len(cell):,} characters; {self.longest:,} "
                    "are allowed (is a quote not closed?)"
                )
                raise BadData(text, row=row, column=name[:100])


def open_table(path: Path, *, longest: int = MAX_CELL) -> Table:
    """The CSV file at `path`: its delimiter, and its column names without space around them.

    Raises BadData if it is empty or its header cannot be read.
    """
    with open_unpacked(path) as file:
        delimiter = find_delimiter(_Reader(file).lines())
    with open_unpacked(path) as file:
        header = next(_Reader(file).rows(delimiter), None)
    if header is None:
        raise BadData("the file is empty")
    if max(map(len, header)) > longest:
        raise BadData("the header holds a huge name")
    return Table(path, delimiter, tuple(name.strip() for name in header), longest)


def open_unpacked(path: Path) -> IO[bytes]:
    """The bytes of a file; gzip is known by its first bytes, as objects have no suffix."""
    with path.open("rb") as file:
        is_packed = file.read(len(GZIP)) == GZIP
    return cast(IO[bytes], gzip.open(path)) if is_packed else path.open("rb")


class _Reader:
    """Reads one file; `row` is the number of the last row, 0 for the header, `size` its bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.row, self.size = file, -1, 0

    def bad(self, text: str) -> BadData:
        """The refusal of the row that was read last."""
        return BadData(text, row=self.row)

    def rows(self, delimiter: str) -> Iterator[list[str]]:
        try:
            for cells in split(self.lines(), delimiter):
                self.row += 1
                yield cells
                self.size = 0
        except csv.Error as error:
            raise BadData(reason(error), row=self.row + 1) from None

    def lines(self) -> Iterator[str]:
        encoding = "utf-8-sig" if self.row < 0 else "utf-8"
        while line := self._line():
            self.size += len(line)
            if self.size > MAX_ROW:
                text = f"it is longer than {MAX_ROW:,} bytes (is a quote not closed?)"
                raise BadData(text, row=self.row + 1)
            try:
                text = line.decode(encoding)
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                text = f"the text is not UTF-8 (byte 0x{byte:02x})"
                raise BadData(text, row=self.row + 1) from None
            if "\0" in text:
                raise BadData("the text holds a zero byte", row=self.row + 1)
            encoding = "utf-8"
            yield text

    def _line(self) -> bytes:
        try:
            return self.file.readline(MAX_ROW + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            text = "the gzip file is damaged"
            raise BadData(text, row=self.row + 1) from None
