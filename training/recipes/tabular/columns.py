"""The columns that a model reads, and how a cell or a JSON value becomes a number or a code."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.errors import BadItem
from training.recipes.tabular.survey import TRUTH, Kind
from training.recipes.tabular.table import is_missing, read_number

FARTHEST = 1e4  # standard deviations; what is farther away is put there
Floats = float | NDArray[np.float64]
Value = str | float | bool | None

RARE = 0  # the code of a category that is rare or was never seen
FEWEST_ROWS = 2  # with a category, for it to be kept


@dataclass(frozen=True)
class Column:
    """One column that the model reads.

    A number is standardised by `center` and `scale`; a category has the code 1 + its place in
    `categories`, then the code for a gap. `has_gaps` is about the rows that the model learned
    from, `may_be_missing` about all rows of the data.
    """

    name: str
    kind: Kind
    has_gaps: bool
    may_be_missing: bool
    center: float = 0.0
    scale: float = 1.0
    categories: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        return self.kind == "number"

    @property
    def gap_code(self) -> int:
        return len(self.categories) + 1 if self.has_gaps else RARE

    @property
    def levels(self) -> int:
        """Codes above 0."""
        return len(self.categories) + self.has_gaps

    def standardise(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values in standard deviations from the mean, NaN where missing."""
        return standardise(values, self.center, self.scale)

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of a value of this column."""
        if self.kind == "number":
            types: list[str] = ["number"]
        else:
            types = ["boolean", "string"] if self.kind == "boolean" else ["string"]
            types += ["number"] * any(
                read_number(one) is not None for one in self.categories
            )
        found: dict[str, Any] = {"type": types + ["null"] * self.may_be_missing}
        if self.kind == "category":
            found["categories"] = list(self.categories)
        return found

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "categories": list(self.categories)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Column:
        return cls(**{**values, "categories": tuple(values["categories"])})


def standardise(
    values: NDArray[np.float64], center: Floats, scale: Floats
) -> NDArray[np.float32]:
    """Values less their center, in units of their scale, at most `FARTHEST` away."""
    with np.errstate(over="ignore"):
        scaled = (values - center) / scale
    found: NDArray[np.float32] = scaled.clip(-FARTHEST, FARTHEST).astype(np.float32)
    return found


def number_column(
    name: str, train: NDArray[np.float64], *, may_be_missing: bool
) -> Column | None:
    """The column of these training values (NaN where missing), or None if it is constant."""
    gaps = np.isnan(train)
    filled = train[~gaps]
    if len(filled) == 0:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        center, scale = float(filled.mean()), float(filled.std())
    if not (math.isfinite(center) and math.isfinite(scale)):
        center, scale = 0.0, float(np.abs(filled).max())
    if filled.min() == filled.max() or scale == 0:
        if not gaps.any():
            return None
        scale = 1.0
    return Column(name, "number", bool(gaps.any()), may_be_missing, center, scale)


def category_column(
    name: str, kind: Kind, train: list[str], most: int, *, may_be_missing: bool
) -> Column | None:
    """The column of these training texts, or None if it is constant.

    The `most` frequent categories that are in two rows at least get codes, ties by name.
    """
    counts = Counter(plain(one, kind) for one in train if not is_missing(one))
    has_gaps = sum(counts.values()) < len(train)
    if len(counts) + has_gaps < 2:
        return None
    ranked = sorted(counts, key=lambda one: (-counts[one], one))
    kept = [one for one in ranked if counts[one] >= FEWEST_ROWS][:most]
    if not kept and not has_gaps:
        return None
    return Column(name, kind, has_gaps, may_be_missing, categories=tuple(sorted(kept)))


def plain(text: str, kind: Kind) -> str:
    """The one spelling of a category."""
    return TRUTH[text.lower()] if kind == "boolean" else text


def text_codes(column: Column, texts: list[str]) -> NDArray[np.int64]:
    """The codes of the cells of a column that is not a number."""
    place = {text: code for code, text in enumerate(column.categories, start=1)}
    codes = {
        text: column.gap_code
        if is_missing(text)
        else place.get(plain(text, column.kind), RARE)
        for text in set(texts)
    }
    return np.array([codes[text] for text in texts], dtype=np.int64)


def example(column: Column, value: Any) -> Value:
    """A cell as a JSON value."""
    if column.is_number:
        return None if math.isnan(value) else float(value)
    if is_missing(value):
        return None
    return plain(value, "boolean") == "true" if column.kind == "boolean" else str(value)


def item_number(column: Column, value: Any) -> float:
    """The number of a JSON value, NaN for a gap. Raises BadItem."""
    if isinstance(value, str) and not is_missing(value.strip()):
        number = read_number(value.strip())
        if number is None:
            raise BadItem(f"{column.name}: {value[:50]!r} is not a number")
        value = number
    if value is None or isinstance(value, str):
        return _gap(column)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadItem(f"{column.name}: a {type(value).__name__} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadItem(f"{column.name}: the number is not finite")
    return number


def item_text(column: Column, value: Any) -> str | None:
    """The category of a JSON value, None for a gap. Raises BadItem."""
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadItem(f"{column.name}: the number is not finite")
    elif isinstance(value, int | float):
        value = _spelling(column, value)
    elif value is not None and not isinstance(value, str):
        raise BadItem(f"{column.name}: a {type(value).__name__} is not a category")
    if value is None or is_missing(value.strip()):
        _gap(column)
        return None
    value = value.strip()
    if column.kind == "boolean":
        if value.lower() not in TRUTH:
            raise BadItem(f"{column.name}: {value[:50]!r} is neither true nor false")
        return TRUTH[value.lower()]
    return str(value)


def _spelling(column: Column, value: float) -> str:
    """How the category that is this number is written in the training data."""
    for one in column.categories:
        if read_number(one) == value:
            return one
    return str(value)


def _gap(column: Column) -> float:
    if not column.may_be_missing:
        raise BadItem(f"{column.name}: a value is needed; none was missing in training")
    return math.nan
