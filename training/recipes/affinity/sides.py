"""Both sides of the pairs, ligands and proteins, as similarities; and the kernel model on them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.context import Context
from training.recipes.affinity.kernel import Kernel, fit_kernel
from training.recipes.affinity.pairs import Cells, Pairs
from training.recipes.affinity.recipe import AffinityParams
from training.recipes.affinity.similarity import (
    align,
    choose_references,
    compare_ligands,
    compare_words,
    is_quick_to_align,
)


@dataclass(frozen=True)
class Side:
    """All ligands or all proteins: which are references, and the similarities to these."""

    known: NDArray[np.int64]
    references: NDArray[np.int64]
    rows: Tensor

    @property
    def square(self) -> Tensor:
        return self.rows[torch.from_numpy(self.references)]


def compare_all(
    pairs: Pairs, cells: Cells, params: AffinityParams, context: Context
) -> tuple[Side, Side]:
    """Ligands by fingerprints, and proteins by 3-mers, which are quick."""
    rng = np.random.default_rng([params.seed, 5])
    known = np.unique(cells.ligand)
    chosen = choose_references(known, len(pairs.ligands), rng)
    ligand_rows = compare_ligands(pairs.molecules, chosen, context)
    ligands = Side(known, chosen, torch.from_numpy(ligand_rows))
    known = np.unique(cells.protein)
    chosen = choose_references(known, len(pairs.proteins), rng)
    protein_rows = compare_words(pairs.proteins, chosen, context)
    return ligands, Side(known, chosen, torch.from_numpy(protein_rows))


def align_proteins(
    pairs: Pairs,
    words: Side,
    params: AffinityParams,
    context: Context,
    fractions: tuple[float, float],
) -> Side:
    """Proteins by alignment where that is wanted, else as they were."""
    wanted = params.protein_similarity
    if wanted == "kmers":
        return words
    if wanted == "auto" and not is_quick_to_align(pairs.proteins, words.references):
        context.note("Aligning these proteins would take long; compared by 3-mers.")
        return words
    names = "\n".join(pairs.proteins) + str(words.references.tolist())
    rows = align(
        pairs.proteins,
        words.references,
        context,
        fractions,
        hashlib.sha256(names.encode()).hexdigest(),
    )
    return Side(words.known, words.references, torch.from_numpy(rows))


def fit_kernel_of(
    ligands: Side, proteins: Side, cells: Cells, ridge: float, context: Context
) -> Kernel:
    """The kernel model of the cells whose ligand and protein are references."""
    ligand = _places(ligands.references, cells.ligand)
    protein = _places(proteins.references, cells.protein)
    both = (ligand >= 0) & (protein >= 0)
    chosen = Cells(ligand, protein, cells.affinity, cells.weight).take(both)
    return fit_kernel(ligands.square, proteins.square, chosen, ridge, context)


def _places(names: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each wanted one stands in the sorted names, or -1."""
    place = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    return np.where(names[place] == wanted, place, -1)


def kernel_values(
    kernel: Kernel, ligands: Side, proteins: Side, cells: Cells
) -> NDArray[np.float64]:
    return kernel.predict(ligands.rows, proteins.rows, cells.ligand, cells.protein)
