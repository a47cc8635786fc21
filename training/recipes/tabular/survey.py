"""What the cells of one column are: numbers, categories, or truth values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from registry.errors import BadData
from training.recipes.tabular.table import Table, is_missing, read_number

Kind = Literal["number", "category", "boolean"]

TRUTH = {"true": "true", "yes": "true", "false": "false", "no": "false"}
MOST_TEXTS = 10_000  # different texts counted per column; more are too many anyway
STRAY_SHARE = 0.05
TICK_EVERY = 1000  # rows


@dataclass
class Survey:
    """Counts over the cells of one column."""

    name: str
    decimal_comma: bool = False
    filled: int = 0
    numbers: int = 0
    whole: bool = True
    truths: bool = True
    padded: bool = False
    first_gap: int | None = None
    first_text: tuple[int, str] | None = None
    first_infinite: int | None = None
    texts: Counter[str] = field(default_factory=Counter)

    def add(self, row: int, text: str) -> None:
        """Count the cell of that row."""
        if is_missing(text):
            if self.first_gap is None:
                self.first_gap = row
            return
        self.filled += 1
        value = read_number(text, decimal_comma=self.decimal_comma)
        if value is None:
            if self.first_text is None:
                self.first_text = row, text
            self.truths = self.truths and text.lower() in TRUTH
        else:
            self.numbers += 1
            self.truths = False
            if not math.isfinite(value):
                if self.first_infinite is None:
                    self.first_infinite = row
            elif self.whole and value != math.floor(value):
                self.whole = False
            if text[0] == "0" and text.isdigit() and len(text) > 1:
                self.padded = True
        if text in self.texts or len(self.texts) < MOST_TEXTS:
            self.texts[text] += 1

    @property
    def strays(self) -> int:
        return self.filled - self.numbers

    def kind(self) -> Kind:
        """What the column is. Raises BadData for texts or infinity in a number column.

        At most 5 % of texts, or a single one, among numbers are an error; more make the
        column a category.
        """
        if self.truths and self.filled:
            return "boolean"
        few = self.strays <= max(1, STRAY_SHARE * self.filled)
        if self.first_text is not None and few and self.numbers >= 3:
            row, text = self.first_text
            raise BadData(
                f"{text[:50]!r} is not a number, but {self.numbers} other cells are",
                row=row,
                column=self.name,
            )
        if self.first_text is not None:
            return "category"
        if self.first_infinite is not None:
            raise BadData(
                "the number is not finite", row=self.first_infinite, column=self.name
            )
        return "number"

    @property
    def is_like_an_id(self) -> bool:
        """Whether nearly every filled cell has a text of its own."""
        return len(self.texts) > 0.9 * min(self.filled, MOST_TEXTS) > 9


def survey_table(
    table: Table, tick: Callable[[], None]
) -> tuple[int, dict[str, Survey]]:
    """The number of rows and the survey of each column; `tick` is called now and then."""
    surveys = [Survey(name, table.decimal_comma) for name in table.columns]
    rows = 0
    for rows, cells in enumerate(table.rows(), start=1):
        if rows % TICK_EVERY == 0:
            tick()
        for survey, text in zip(surveys, cells, strict=True):
            survey.add(rows, text)
    return rows, {survey.name: survey for survey in surveys}
