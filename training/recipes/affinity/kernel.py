"""Kernel ridge regression on pairs with a product kernel: a strong model in a fraction of a second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.context import Context
from training.recipes.affinity.pairs import Cells

TOLERANCE = 3e-3  # of the residual against the targets; below it no figure changes
MOST, LEAST = 300, 20  # iterations
CHUNK = 4096  # pairs
WORK = 1e12  # multiplications that all iterations together may take


@dataclass(frozen=True)
class Kernel:
    """`mean` and the coefficients, float32 [ligand references, protein references]."""

    mean: float
    coefficients: Tensor

    def predict(
        self,
        ligand_rows: Tensor,
        protein_rows: Tensor,
        ligand: NDArray[np.int64],
        protein: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Values for pairs of rows; rows are similarities to the references."""
        left = ligand_rows.float() @ self.coefficients
        right = root(protein_rows.float())
        values = [
            (left[i] * right[j]).sum(1)
            for i, j in zip(
                torch.split(torch.from_numpy(ligand), CHUNK),
                torch.split(torch.from_numpy(protein), CHUNK),
                strict=True,
            )
        ]
        return self.mean + torch.cat(values).double().numpy()


def root(rows: Tensor) -> Tensor:
    """Square root of protein similarities, which makes far relatives count more."""
    return rows.clamp(min=0).sqrt()


def fit_kernel(
    ligand_square: Tensor,
    protein_square: Tensor,
    cells: Cells,
    ridge: float,
    context: Context,
) -> Kernel:
    """Minimise the squared error on the cells plus `ridge` times the norm of the function.

    Squares are similarities among the references, and the cells hold places in these. Solved by
    conjugate gradients without ever forming the kernel of all pairs (Airola and Pahikkala, IEEE
    Trans. Neural Netw. Learn. Syst. 29 (2018) 3374). Raises Stopped.
    """
    mean = float(np.average(cells.affinity, weights=cells.weight))
    left, right = ligand_square.float(), root(protein_square.float())
    shape = (len(left), len(right))
    place = torch.from_numpy(cells.ligand), torch.from_numpy(cells.protein)
    mask = torch.zeros(shape, dtype=torch.float32)
    mask[place] = 1.0
    # A mean of n measurements has an n-th of the variance, and so of the ridge.
    diagonal = torch.zeros(shape, dtype=torch.float32)
    diagonal[place] = ridge / torch.from_numpy(cells.weight).float()
    residual = torch.zeros(shape, dtype=torch.float32)
    residual[place] = torch.from_numpy(cells.affinity - mean).float()
    solution, direction = torch.zeros(shape, dtype=torch.float32), residual.clone()
    norm = goal = float((residual**2).sum())
    work = shape[0] * shape[1] * (shape[0] + shape[1])
    for _ in range(max(LEAST, min(MOST, int(WORK / work)))):
        context.stop_if_asked()
        if norm <= TOLERANCE**2 * goal:
            break
        image = mask * (left @ direction @ right) + diagonal * direction
        curvature = float((direction * image).sum())
        if curvature <= 0:  # the square root of a kernel need not be a kernel
            break
        solution += norm / curvature * direction
        residual -= norm / curvature * image
        before, norm = norm, float((residual**2).sum())
        direction = residual + norm / before * direction
    return Kernel(mean, solution)
