"""Items of both models, and how they become arrays; without torch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

WIDTH = 128  # numbers of an item of tiny
LIGAND, PROTEIN = 60, 200  # letters of an item of dta
LETTERS = 64, 25


def encode(name: str, item: Any) -> tuple[np.ndarray, ...]:
    """One item as the module's arguments, without the axis of items. Raises ValueError."""
    if name == "tiny":
        row = np.array(item["x"], np.float32)
        if row.shape != (WIDTH,):
            raise ValueError(f"x must have {WIDTH} numbers")
        return (row,)
    found = []
    for field, size, letters in (
        ("ligand", LIGAND, LETTERS[0]), ("protein", PROTEIN, LETTERS[1]),
    ):  # fmt: skip
        row = np.array(item[field], np.int64)
        if row.shape != (size,) or row.min() < 0 or row.max() > letters:
            raise ValueError(f"{field} must have {size} codes up to {letters}")
        found.append(row)
    return tuple(found)


def encode_all(name: str, some: Sequence[Any]) -> list[tuple[np.ndarray, ...]]:
    """What `encode` gives of each, in one go. Raises ValueError if one cannot be used."""
    if name == "tiny":
        rows = np.array([item["x"] for item in some], np.float32)
        if rows.shape != (len(some), WIDTH):
            raise ValueError(f"x must have {WIDTH} numbers")
        return [(row,) for row in rows]
    return [encode(name, item) for item in some]


def arrays(rows: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """The columns of the rows, the items along the first axis."""
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def items(name: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    if name == "tiny":
        return [
            {"x": [round(rng.uniform(-1, 1), 5) for _ in range(WIDTH)]}
            for _ in range(count)
        ]
    return [
        {
            "ligand": [rng.randint(1, LETTERS[0]) for _ in range(LIGAND)],
            "protein": [rng.randint(1, LETTERS[1]) for _ in range(PROTEIN)],
        }
        for _ in range(count)
    ]
