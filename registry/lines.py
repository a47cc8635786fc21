"""A text file line by line, in constant memory, and what may be learned of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from registry.archives import Growth
from registry.errors import BadData

MAX_ROW = 16 * 1024**2  # bytes
MAX_COLUMNS = 10_000
COUNT_EVERY = 64 * 1024  # bytes
PREVIEW = 5  # rows
SHOWN = 200  # characters of a cell in the preview


@dataclass
class Findings:
    """What sealing learned of a file."""

    rows: int | None = None
    columns: list[str] = field(default_factory=list)
    preview: list[dict[str, Any]] = field(default_factory=list)
    file_count: int = 1


class Lines(Iterable[str]):
    """The lines of a text file; bytes that are not UTF-8 come as lone surrogates.

    `row` is the caller's number of the last whole row, `fault` whether a line since then holds
    bytes that no text holds, and `size` the bytes since then.
    """

    def __init__(self, file: IO[bytes], growth: Growth) -> None:
        self.file, self.growth = file, growth
        self.row, self.size, self.fault = 0, 0, False

    def __iter__(self) -> Iterator[str]:
        self.file.seek(0)
        self.growth.unpacked = uncounted = 0
        is_first, read = True, self.file.readline
        while line := read(MAX_ROW + 1):
            uncounted += len(line)
            # By blocks: a call for each line costs as much as reading it.
            if uncounted > COUNT_EVERY:
                self.growth.add(uncounted)
                uncounted = 0
            self.size += len(line)
            if self.size > MAX_ROW:
                raise BadData(
                    f"it is longer than {MAX_ROW:,} bytes (is a quote not closed?)",
                    row=self.row + 1,
                )
            if is_first:
                is_first, line = False, line.removeprefix(b"\xef\xbb\xbf")
            try:
                text = line.decode()
            except UnicodeDecodeError:
                self.fault = True
                text = line.decode(errors="surrogateescape")
            if "\0" in text:
                self.fault = True
            yield text
        self.growth.add(uncounted)

    def next_row(self) -> None:
        self.row, self.size = self.row + 1, 0

    def peek(self) -> str:
        """The first line, which comes again in the next iteration."""
        line = next(iter(self), "")
        self.size = 0
        return line


def shown(text: str) -> str:
    # Neither a NUL nor half a surrogate pair can be kept in every database.
    whole = text[:SHOWN].replace("\0", "\ufffd")
    return whole.encode("utf-8", "replace").decode()
