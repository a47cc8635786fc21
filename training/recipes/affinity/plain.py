"""The ensemble of `towers` on numpy: it answers alike, without torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CHUNK = 128  # pairs or entities computed at once, so that they stay in a core's cache
EPSILON = 1e-5  # added to a variance, as torch does
# Abramowitz and Stegun 7.1.26: the error function but for 1.5e-7.
SLOPE, TERMS = (
    0.3275911,
    (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592),
)
Values = NDArray[np.float32]


class Networks:
    """All members at once, by the names of the weights in a model's file."""

    def __init__(self, weights: Mapping[str, Values], width: int) -> None:
        self.weights, self.width = weights, width

    def see_ligands(self, rows: Values) -> Values:
        """Vector and hidden part of each ligand, [members, n, width + hidden]."""
        return self._see("ligands", "from_ligand", rows)

    def see_proteins(self, rows: Values) -> Values:
        """As `see_ligands`, of proteins."""
        return self._see("proteins", "from_protein", rows)

    def pair(self, ligands: Values, proteins: Values) -> Values:
        """Values [members, n] of n ligands and n proteins that were seen."""
        size = ligands.shape[1]
        parts = [slice(at, at + CHUNK) for at in range(0, size, CHUNK)]
        return np.concatenate(
            [self._pair(ligands[:, p], proteins[:, p]) for p in parts], 1
        )

    def _pair(self, ligands: Values, proteins: Values) -> Values:
        (u, a), (v, b) = (np.split(one, [self.width], 2) for one in (ligands, proteins))
        x = np.matmul(u * v, self.weights["from_product.weight"])
        x += a
        x += b
        x = gelu(self._linear("head", gelu(x)))
        return self._linear("out", x)[:, :, 0]

    def _see(self, tower: str, hidden: str, rows: Values) -> Values:
        parts = [rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK)]
        return np.concatenate([self._tower(tower, hidden, one) for one in parts], 1)

    def _tower(self, tower: str, hidden: str, rows: Values) -> Values:
        x = gelu(
            self._norm(f"{tower}.first_norm", self._linear(f"{tower}.first", rows))
        )
        x = self._norm(f"{tower}.second_norm", self._linear(f"{tower}.second", x))
        return np.concatenate([x, self._linear(hidden, x)], 2)

    def _linear(self, name: str, x: Values) -> Values:
        found: Values = np.matmul(x, self.weights[f"{name}.weight"])
        if (bias := self.weights.get(f"{name}.bias")) is not None:
            found += bias
        return found

    def _norm(self, name: str, x: Values) -> Values:
        x -= x.mean(-1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(EPSILON))
        x *= self.weights[f"{name}.weight"]
        x += self.weights[f"{name}.bias"]
        return x


def gelu(x: Values) -> Values:
    """x times the normal distribution's share below it."""
    size = np.abs(x)
    t = size * np.float32(SLOPE * 0.5**0.5)
    t += 1
    np.divide(1, t, out=t)
    beyond = t * np.float32(TERMS[0])
    for term in TERMS[1:]:
        beyond += np.float32(term)
        beyond *= t
    np.square(x, out=t)
    t *= np.float32(-0.5)
    beyond *= np.exp(t, out=t)
    # `beyond` is now twice the share beyond |x|.
    beyond *= size
    beyond *= np.float32(0.5)
    found: Values = np.maximum(x, 0, out=size)
    found -= beyond
    return found
