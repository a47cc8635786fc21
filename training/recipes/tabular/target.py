"""The column to predict: its task, its classes, its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from registry.errors import BadData
from training.recipes.tabular.survey import MOST_TEXTS, Survey
from training.recipes.tabular.table import read_number

MOST_WHOLE = 20  # different whole numbers that still are classes
MOST_CLASSES = 1000
FEWEST_IN_CLASS = 3

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Target:
    """What is predicted; `labels` are the classes in order, empty for a regression."""

    name: str
    task: Task
    labels: tuple[str | int | float, ...]
    decimal_comma: bool = False

    def encode(self, texts: list[str]) -> NDArray[np.float64]:
        """Class numbers or values of cells."""
        if self.task == "regression" or not isinstance(self.labels[0], str):
            values = [
                read_number(one, decimal_comma=self.decimal_comma) for one in texts
            ]
            if self.task == "regression":
                return np.array(values, dtype=np.float64)
            place: dict[object, int] = {v: i for i, v in enumerate(self.labels)}
            return np.array([place[one] for one in values], dtype=np.float64)
        place = {v: i for i, v in enumerate(self.labels)}
        return np.array([place[one] for one in texts], dtype=np.float64)


def make_target(survey: Survey, wanted: str) -> Target:
    """The target that a column is, for the task `auto`, `classification` or `regression`.

    Raises BadData for gaps, one value only, rare classes, and texts where numbers are needed.
    """
    name = survey.name
    if survey.filled == 0:
        raise BadData("the target is empty in all rows", column=name)
    if survey.first_gap is not None:
        raise BadData("the target is missing", row=survey.first_gap, column=name)
    if wanted == "regression" and survey.first_text is not None:
        row, text = survey.first_text
        raise BadData(
            f"{text[:50]!r} is not a number; a regression needs numbers",
            row=row,
            column=name,
        )
    as_texts = wanted == "classification" and survey.first_text is not None
    is_number = not as_texts and survey.kind() == "number"
    counts: dict[str | int | float, int] = {}
    for text, count in survey.texts.items():
        label = _label(text, survey) if is_number and not survey.padded else text
        counts[label] = counts.get(label, 0) + count
    if len(counts) == 1:
        raise BadData(
            f"the target is {next(iter(counts))!r} in all rows; there is nothing to learn",
            column=name,
        )
    few = len(counts) == 2 or (
        survey.whole and len(counts) <= min(MOST_WHOLE, survey.filled / 4)
    )
    if wanted == "regression" or (wanted == "auto" and is_number and not few):
        return Target(name, "regression", (), survey.decimal_comma)
    _check_classes(survey, counts)
    labels = tuple(sorted(counts))
    return Target(name, "classification", labels, survey.decimal_comma)


def _label(text: str, survey: Survey) -> int | float:
    value = read_number(text, decimal_comma=survey.decimal_comma)
    assert value is not None
    return int(value) if value.is_integer() else value


def _check_classes(survey: Survey, counts: dict[str | int | float, int]) -> None:
    if len(survey.texts) >= MOST_TEXTS or len(counts) > MOST_CLASSES:
        raise BadData(
            f"the target has more than {MOST_CLASSES} classes", column=survey.name
        )
    if survey.is_like_an_id:
        raise BadData(
            "the target has a text of its own in nearly every row", column=survey.name
        )
    for label, count in counts.items():
        if count < FEWEST_IN_CLASS:
            rows = "row" if count == 1 else "rows"
            raise BadData(
                f"class {label!r} has {count} {rows} only; each needs {FEWEST_IN_CLASS} "
                "for a split",
                column=survey.name,
            )
