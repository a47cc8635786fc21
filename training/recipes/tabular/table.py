"""A CSV file as the recipe reads it, and which of its cells say that there is no value."""

from __future__ import annotations

from pathlib import Path

from registry import dialect
from registry.dialect import Table, read_number

__all__ = ["MAX_CELL", "Table", "is_missing", "open_table", "read_number"]

MAX_CELL = 10_000  # characters
MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})


def is_missing(text: str) -> bool:
    """Whether a cell (without white space around it) says that there is no value."""
    return len(text) <= 4 and text.lower() in MISSING


def open_table(path: Path) -> Table:
    """The CSV file at `path`, plain or gzipped. Raises BadData if its header cannot be read."""
    return dialect.open_table(path, longest=MAX_CELL)
