"""From the rows of a table to pairs of known ligands and proteins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from registry.errors import BadData
from training.context import Context
from training.recipes.affinity.chemistry import canonical, read_smiles
from training.recipes.affinity.proteins import read_sequence
from training.recipes.affinity.table import Table

CONFLICT = 1.0  # log units between two measurements of one pair
LARGEST_LOGARITHM = 20.0  # no pKd or like score is larger; a concentration in nM is
STOP_EVERY = 200  # molecules between two looks at the wish to stop
FEWEST = 10  # rows
Read = TypeVar("Read")


@dataclass(frozen=True)
class Pairs:
    """Rows as numbers: row r measured `affinity[r]` for ligand `ligand[r]`, protein `protein[r]`.

    `ligands` are canonical SMILES in sorted order with their `molecules`; `proteins` are sorted
    sequences; `folds` has one text a row, or nothing.
    """

    ligands: list[str]
    molecules: list[Any]
    proteins: list[str]
    ligand: NDArray[np.int64]
    protein: NDArray[np.int64]
    affinity: NDArray[np.float64]
    folds: list[str]

    @property
    def key(self) -> NDArray[np.int64]:
        """One number for each pair of ligand and protein."""
        return self.ligand * len(self.proteins) + self.protein


@dataclass(frozen=True)
class Cells:
    """Pairs that are there once: the mean of `weight` measurements each."""

    ligand: NDArray[np.int64]
    protein: NDArray[np.int64]
    affinity: NDArray[np.float64]
    weight: NDArray[np.float64]

    def take(self, chosen: NDArray[Any]) -> Cells:
        """Those of the chosen places."""
        return Cells(
            self.ligand[chosen],
            self.protein[chosen],
            self.affinity[chosen],
            self.weight[chosen],
        )


def read_pairs(table: Table, context: Context) -> Pairs:
    """Read every molecule and sequence once. Raises BadData with row and column, and Stopped."""
    molecules = _read_each(table.smiles, "smiles", read_smiles, context)
    sequences = _read_each(table.sequences, "sequence", read_sequence, context)
    names = {text: canonical(molecule) for text, molecule in molecules.items()}
    by_name = {names[text]: molecule for text, molecule in molecules.items()}
    ligands, proteins = sorted(by_name), sorted(set(sequences.values()))
    ligand_of = {name: place for place, name in enumerate(ligands)}
    protein_of = {name: place for place, name in enumerate(proteins)}
    pairs = Pairs(
        ligands,
        [by_name[name] for name in ligands],
        proteins,
        np.array([ligand_of[names[text]] for text in table.smiles]),
        np.array([protein_of[sequences[text]] for text in table.sequences]),
        np.array(table.affinities),
        table.folds,
    )
    _check_targets(pairs.affinity)
    _note_oddities(pairs, context)
    return pairs


def merge(pairs: Pairs, chosen: NDArray[np.bool_]) -> Cells:
    """The mean of all measurements of each pair among the chosen rows, sorted by pair."""
    keys, inverse, weight = np.unique(
        pairs.key[chosen], return_inverse=True, return_counts=True
    )
    total = np.bincount(inverse, pairs.affinity[chosen], len(keys))
    ligand, protein = np.divmod(keys, len(pairs.proteins))
    return Cells(ligand, protein, total / weight, weight.astype(np.float64))


def _read_each(
    texts: list[str], column: str, read: Callable[[str], Read], context: Context
) -> dict[str, Read]:
    known: dict[str, Read] = {}
    for row, text in enumerate(texts, 1):
        if text in known:
            continue
        if len(known) % STOP_EVERY == 0:
            context.stop_if_asked()
        try:
            known[text] = read(text)
        except ValueError as error:
            raise BadData(str(error), row=row, column=column) from None
    return known


def _check_targets(affinity: NDArray[np.float64]) -> None:
    if len(affinity) < FEWEST:
        raise BadData(f"{len(affinity)} rows are too few; {FEWEST} are the least")
    if np.all(affinity == affinity[0]):
        raise BadData(
            f"all values are {affinity[0]:g}; there is nothing to learn",
            column="affinity",
        )


def _note_oddities(pairs: Pairs, context: Context) -> None:
    order = np.argsort(pairs.key, kind="stable")
    starts = np.flatnonzero(np.diff(pairs.key[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    if repeats := int((sizes > 1).sum()):
        values = pairs.affinity[order]
        spread = np.maximum.reduceat(values, starts) - np.minimum.reduceat(
            values, starts
        )
        conflicts = int((spread > CONFLICT).sum())
        context.note(
            f"{repeats:,} pairs are measured more than once; training uses their mean. "
            f"{conflicts:,} of them differ by more than one log unit."
        )
    if salts := sum("." in name for name in pairs.ligands):
        context.note(
            f"{salts:,} ligands have several parts, as salts have; kept whole."
        )
    if np.median(pairs.affinity) > LARGEST_LOGARITHM:
        context.note(
            "The affinities look like concentrations. Units are never guessed; "
            "a logarithm such as pKd is learned better."
        )
