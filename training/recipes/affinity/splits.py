"""Which rows train, which are set aside to judge on the way, and which are the test."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from registry.errors import BadData
from training.context import Context
from training.recipes.affinity.pairs import Cells, Pairs
from training.recipes.affinity.recipe import AffinityParams

TRAIN, VALID, TEST, LEFT_OUT = range(4)
VALID_NAMES = ("valid", "validation", "val", "dev")
FEWEST_JUDGED = 5  # pairs
TEAM = 2  # members that set aside the same pairs
FEWEST_TRAINING, FEWEST_TEST = 8, 2  # rows
Roles = NDArray[np.int8]
Kind = Literal["random", "cold_ligand", "cold_protein", "cold_both"]


def assign_roles(pairs: Pairs, params: AffinityParams, context: Context) -> Roles:
    """One role a row. Raises BadData if training or test would be too small."""
    rng = np.random.default_rng([params.seed, 1])
    if params.split == "given" or (params.split == "auto" and "test" in pairs.folds):
        roles = given(pairs.folds)
    else:
        kind: Kind = "random" if params.split == "auto" else params.split
        roles = draw(kind, pairs.ligand, pairs.protein, params.test_fraction, rng)
    if left_out := int((roles == LEFT_OUT).sum()):
        context.note(
            f"{left_out:,} rows have only a new ligand or only a new protein; left out."
        )
    for role, name, fewest in (
        (TRAIN, "training", FEWEST_TRAINING),
        (TEST, "test", FEWEST_TEST),
    ):
        count = int((roles == role).sum())
        if count < fewest:
            raise BadData(f"the split leaves {count} rows for the {name}; too few")
    return roles


def given(folds: list[str]) -> Roles:
    """`test` is the test, `valid` judges, all others train; cases do not matter."""
    roles = [
        TEST if fold == "test" else VALID if fold in VALID_NAMES else TRAIN
        for fold in folds
    ]
    return np.array(roles, np.int8)


def draw(
    kind: Kind,
    ligand: NDArray[np.int64],
    protein: NDArray[np.int64],
    fraction: float,
    rng: np.random.Generator,
) -> Roles:
    """Draw a test of `fraction` of the pairs, the ligands, the proteins, or both.

    With `cold_both` the test has pairs of a new ligand and a new protein, the training those of
    neither, and what has one of both is left out.
    """
    if kind == "random":
        is_test = _draw(ligand * (protein.max() + 1) + protein, fraction, rng)
        return np.where(is_test, TEST, TRAIN).astype(np.int8)
    new_ligand = _draw(ligand, fraction, rng)
    new_protein = _draw(protein, fraction, rng)
    if kind == "cold_ligand":
        return np.where(new_ligand, TEST, TRAIN).astype(np.int8)
    if kind == "cold_protein":
        return np.where(new_protein, TEST, TRAIN).astype(np.int8)
    either = np.where(new_ligand | new_protein, LEFT_OUT, TRAIN)
    return np.where(new_ligand & new_protein, TEST, either).astype(np.int8)


def hold_out(
    kind: Kind, cells: Cells, fraction: float, members: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each member the places it trains on, and those it is judged on.

    The members of a team set aside the same pairs, so that their mean can be judged, too. Where
    too few would be left on either side, nothing is set aside.
    """
    parts = []
    for member in range(members):
        rng = np.random.default_rng([seed, 2, member // TEAM])
        roles = draw(kind, cells.ligand, cells.protein, fraction, rng)
        parts.append((np.flatnonzero(roles == TRAIN), np.flatnonzero(roles == TEST)))
    if any(
        len(train) < FEWEST_TRAINING or len(judged) < FEWEST_JUDGED
        for train, judged in parts
    ):
        return nothing_held_out(cells, members)
    return parts


def nothing_held_out(
    cells: Cells, members: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All members train on all pairs."""
    return [(np.arange(len(cells.affinity)), np.arange(0))] * members


def _draw(
    groups: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Whether each row's group is among a random `fraction` of all groups, one at least."""
    names = np.unique(groups)
    count = min(max(round(fraction * len(names)), 1), len(names))
    chosen: NDArray[np.bool_] = np.isin(groups, rng.choice(names, count, replace=False))
    return chosen
