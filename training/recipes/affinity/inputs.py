"""What the towers see of an entity: its similarities to some references, centred and scaled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """`columns` (int64) of a row of similarities, their centres, and one deviation for all."""

    columns: Tensor
    centre: Tensor
    deviation: float

    def of(self, rows: Tensor) -> Tensor:
        """Inputs [n, columns] from similarities [n, references]."""
        return (rows[:, self.columns] - self.centre) / self.deviation


def find_inputs(known: Tensor, most: int, rng: np.random.Generator) -> Inputs:
    """Inputs from the similarities of the training entities to the references."""
    size = known.shape[1]
    chosen: NDArray[np.int64] = np.arange(size)
    if size > most:
        chosen = np.sort(rng.choice(size, most, replace=False))
    columns = torch.from_numpy(chosen)
    values = known[:, columns]
    centre = values.mean(0)
    deviation = float((values - centre).square().mean().sqrt())
    return Inputs(columns, centre, max(deviation, 1e-6))
