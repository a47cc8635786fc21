"""What the towers see of an entity: its similarities to some references, centred and scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """`columns` (int64) of a row of similarities, their centres, and one deviation for all.

    All are of torch, or all of numpy.
    """

    columns: Any
    centre: Any
    deviation: float

    def of(self, rows: Any) -> Any:
        """Inputs [n, columns] from similarities [n, references]."""
        return (rows[:, self.columns] - self.centre) / self.deviation


def find_inputs(known: Tensor, most: int, rng: np.random.Generator) -> Inputs:
    """Inputs from the similarities of the training entities to the references."""
    import torch

    size = known.shape[1]
    chosen: NDArray[np.int64] = np.arange(size)
    if size > most:
        chosen = np.sort(rng.choice(size, most, replace=False))
    columns = torch.from_numpy(chosen)
    values = known[:, columns]
    centre = values.mean(0)
    deviation = float((values - centre).square().mean().sqrt())
    return Inputs(columns, centre, max(deviation, 1e-6))
