"""Reading a CSV of pairs, refusing it at the first cell that is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from registry.errors import BadData
from training.context import Context
from training.recipes.affinity.columns import find_columns
from training.recipes.affinity.recipe import MAX_SEQUENCE, MAX_SMILES

LARGEST = 1e9  # beyond it squares no longer fit into float32
STOP_EVERY = 2_000  # rows between two looks at the wish to stop


@dataclass
class Table:
    """The rows as they are written; equal texts are one object. `folds` is empty without a column."""

    smiles: list[str] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)
    affinities: list[float] = field(default_factory=list)
    folds: list[str] = field(default_factory=list)


def read_table(path: Path, context: Context) -> Table:
    """Read the CSV at `path`, plain or gzip. Raises BadData with row and column, and Stopped."""
    table, known = Table(), dict[str, str]()
    rows = _rows(path)
    _, header = next(rows, (0, []))
    place = find_columns(header)
    for row, cells in rows:
        if row % STOP_EVERY == 0:
            context.stop_if_asked()
        if len(cells) != len(header):
            raise BadData(f"{len(cells)} fields instead of {len(header)}", row=row)
        smiles, sequence = cells[place["smiles"]].strip(), cells[place["sequence"]]
        for name, text, limit in (
            ("smiles", smiles, MAX_SMILES),
            ("sequence", sequence, MAX_SEQUENCE),
        ):
            if len(text) > limit:
                raise BadData(
                    f"{len(text):,} characters; at most {limit:,} are read",
                    row=row,
                    column=name,
                )
        table.smiles.append(known.setdefault(smiles, smiles))
        table.sequences.append(known.setdefault(sequence, sequence))
        table.affinities.append(_number(cells[place["affinity"]], row))
        if "fold" in place:
            table.folds.append(cells[place["fold"]].strip().lower())
    if not table.smiles:
        raise BadData("there are no rows below the header")
    return table


def _rows(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """Every row that is not blank with its number; the header has number 0."""
    row = 0
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        plain = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
        text = io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")
        try:
            for cells in csv.reader(text, strict=True):
                if cells:
                    yield row, cells
                    row += 1
        except UnicodeDecodeError as error:
            raise BadData(
                f"not UTF-8 text near here ({error.reason})", row=row
            ) from None
        except csv.Error as error:
            raise BadData(f"not readable as CSV: {error}", row=row) from None
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadData(f"the gzip file is damaged: {error}", row=row) from None


def _number(text: str, row: int) -> float:
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = None
    if value is None or "_" in text:
        shown = repr(text[:40]) if text.strip() else "an empty cell"
        raise BadData(f"{shown} is not a number", row=row, column="affinity")
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise BadData(
            f"{text.strip()[:40]} is not a finite number of usual size",
            row=row,
            column="affinity",
        )
    return value
