"""The cells of a table by column, once it is known what each column is."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from registry.errors import BadData
from training.recipes.tabular.recipe import TabularParams
from training.recipes.tabular.survey import TICK_EVERY, Kind, Survey
from training.recipes.tabular.table import Table, is_missing, read_number


@dataclass(frozen=True)
class Cells:
    """Number columns as float64 with NaN for gaps; all others as texts."""

    numbers: Mapping[str, NDArray[np.float64]]
    texts: Mapping[str, list[str]]


def choose_kinds(
    surveys: Mapping[str, Survey], params: TabularParams, *, without: Iterable[str]
) -> tuple[dict[str, Kind], list[str]]:
    """What each column is read as, and a sentence for each that is not used.

    Raises BadData for texts or infinity in a number column.
    """
    kinds: dict[str, Kind] = {}
    notes = []
    for name, survey in surveys.items():
        if name in without:
            continue
        if survey.filled == 0:
            notes.append(f"Column {name} is not used: it is empty.")
            continue
        kind: Kind = "category" if name in params.categories else survey.kind()
        if kind == "category" and survey.is_like_an_id:
            notes.append(
                f"Column {name} is not used: nearly every row has a text of its own."
            )
            continue
        kinds[name] = kind
    return kinds, notes


def read_cells(
    table: Table,
    kinds: Mapping[str, Kind],
    texts: Iterable[str],
    tick: Callable[[], None],
) -> Cells:
    """Read the columns of `kinds`, and those of `texts` as they stand."""
    numbers = {one: array("d") for one, kind in kinds.items() if kind == "number"}
    others: dict[str, list[str]] = {
        one: [] for one in [*kinds, *texts] if one not in numbers
    }
    place = {name: index for index, name in enumerate(table.columns)}
    number_places = [(place[one], values) for one, values in numbers.items()]
    text_places = [(place[one], values) for one, values in others.items()]
    same: dict[str, str] = {}
    for row, cells in enumerate(table.rows(), start=1):
        if row % TICK_EVERY == 0:
            tick()
        for index, values in number_places:
            values.append(_number(cells[index], table.decimal_comma))
        for index, kept in text_places:
            kept.append(same.setdefault(cells[index], cells[index]))
    return Cells(
        {one: np.frombuffer(values, np.float64) for one, values in numbers.items()},
        others,
    )


def _number(text: str, decimal_comma: bool) -> float:
    if is_missing(text):
        return math.nan
    value = read_number(text, decimal_comma=decimal_comma)
    if value is None:
        raise BadData("the file changed while it was read")
    return value
