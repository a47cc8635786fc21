"""Reading a CSV of pairs, refusing it at the first cell that is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from registry.dialect import open_table, read_number
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
    file = open_table(path)
    place = find_columns(file.columns)
    for row, cells in enumerate(file.rows(), start=1):
        if row % STOP_EVERY == 0:
            context.stop_if_asked()
        smiles, sequence = cells[place["smiles"]], cells[place["sequence"]]
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
        value = read_number(cells[place["affinity"]], decimal_comma=file.decimal_comma)
        table.affinities.append(_checked(value, cells[place["affinity"]], row))
        if "fold" in place:
            table.folds.append(cells[place["fold"]].lower())
    if not table.smiles:
        raise BadData("there are no rows below the header")
    return table


def _checked(value: float | None, text: str, row: int) -> float:
    if value is None:
        shown = repr(text[:40]) if text else "an empty cell"
        raise BadData(f"{shown} is not a number", row=row, column="affinity")
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise BadData(
            f"{text[:40]} is not a finite number of usual size",
            row=row,
            column="affinity",
        )
    return value
