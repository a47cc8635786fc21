"""The ensemble as torch runs it, for arrays of numpy: what `plain` does, also on a GPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from training.recipes.affinity.towers import Ensemble

Values = NDArray[np.float32]


class Networks:
    def __init__(self, ensemble: Ensemble, device: str) -> None:
        self.ensemble, self.device = ensemble, device

    @torch.inference_mode()
    def see_ligands(self, rows: Values) -> Values:
        return self._here(self.ensemble.see_ligands(self._there(rows)))

    @torch.inference_mode()
    def see_proteins(self, rows: Values) -> Values:
        return self._here(self.ensemble.see_proteins(self._there(rows)))

    @torch.inference_mode()
    def pair(self, ligands: Values, proteins: Values) -> Values:
        seen = self._there(ligands), self._there(proteins)
        return self._here(self.ensemble.pair(*seen))

    def _there(self, values: Values) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)

    @staticmethod
    def _here(values: torch.Tensor) -> Values:
        found: Values = values.cpu().numpy()
        return found
