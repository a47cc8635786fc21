"""A CSV file as arrays: what the network reads, and what it is to predict."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from registry.errors import BadData
from training.recipes.tabular.cells import Cells, choose_kinds, read_cells
from training.recipes.tabular.columns import (
    Column,
    Value,
    category_column,
    example,
    number_column,
    text_codes,
)
from training.recipes.tabular.recipe import MIN_ROWS, TabularParams, check, target_of
from training.recipes.tabular.split import Mask, check_classes, named_test, random_test
from training.recipes.tabular.survey import Kind, survey_table
from training.recipes.tabular.table import open_table
from training.recipes.tabular.target import Target, make_target

EXAMPLES = 3


@dataclass(frozen=True)
class Dataset:
    """The rows of a file, ready to learn from.

    `numbers` is float32 [rows, number columns], `codes` int64 [rows, other columns], `y` class
    numbers or values, float64; `test` marks the held-out rows; `ignored` are the columns that the
    model does not read and `notes` say why; `examples` are a few rows as items.
    """

    columns: tuple[Column, ...]
    target: Target
    numbers: NDArray[np.float32]
    codes: NDArray[np.int64]
    y: NDArray[np.float64]
    test: Mask
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    examples: tuple[dict[str, Value], ...]
    digest: str


def read_dataset(
    path: Path, params: TabularParams, tick: Callable[[], None]
) -> Dataset:
    """Read a CSV file, choose the task, and hold the test rows out.

    `tick` is called now and then and may raise. Raises BadData, or Problem `invalid` for
    parameters that do not fit the file.
    """
    table = open_table(path)
    check(table.columns, params)
    rows, surveys = survey_table(table, tick)
    if rows < MIN_ROWS:
        raise BadData(
            f"there are {rows} rows after the header; {MIN_ROWS} are needed"
            if rows
            else "there are no rows after the header"
        )
    target = make_target(surveys[target_of(table.columns, params)], params.task)
    fold = params.fold_column
    roles = [target.name] if fold is None else [target.name, fold]
    kinds, notes = choose_kinds(surveys, params, without=roles)
    cells = read_cells(table, kinds, roles, tick)
    y = target.encode(cells.texts[target.name])
    test = _held_out(cells, y, target, params)
    columns = []
    for name, kind in kinds.items():
        tick()
        gaps = surveys[name].first_gap is not None
        column = _column(name, kind, cells, ~test, params.max_categories, gaps)
        if column is None:
            notes.append(f"Column {name} is not used: it does not vary.")
        else:
            columns.append(column)
    if not columns:
        raise BadData(" ".join(["no column is left to predict from.", *notes]))
    numbers = [c.standardise(cells.numbers[c.name]) for c in columns if c.is_number]
    codes = [text_codes(c, cells.texts[c.name]) for c in columns if not c.is_number]
    used = {column.name for column in columns}
    return Dataset(
        columns=tuple(columns),
        target=target,
        numbers=np.stack(numbers, 1) if numbers else np.zeros((rows, 0), np.float32),
        codes=np.stack(codes, 1) if codes else np.zeros((rows, 0), np.int64),
        y=y,
        test=test,
        ignored=tuple(one for one in table.columns if one not in used),
        notes=tuple(notes),
        examples=tuple(_item(columns, cells, row) for row in range(EXAMPLES)),
        digest=_digest(path),
    )


def _held_out(
    cells: Cells, y: NDArray[np.float64], target: Target, params: TabularParams
) -> Mask:
    if params.fold_column is None:
        return random_test(y, target, params.test_fraction, params.seed)
    test = named_test(cells.texts[params.fold_column], params.fold_column)
    check_classes(y, test, target, params.fold_column)
    return test


def _column(
    name: str, kind: Kind, cells: Cells, train: Mask, most: int, gaps: bool
) -> Column | None:
    if kind == "number":
        return number_column(name, cells.numbers[name][train], may_be_missing=gaps)
    texts = [cells.texts[name][row] for row in np.flatnonzero(train)]
    return category_column(name, kind, texts, most, may_be_missing=gaps)


def _item(columns: list[Column], cells: Cells, row: int) -> dict[str, Value]:
    return {
        one.name: example(
            one, (cells.numbers if one.is_number else cells.texts)[one.name][row]
        )
        for one in columns
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
