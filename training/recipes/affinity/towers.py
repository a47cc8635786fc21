"""An ensemble of two-tower networks, trained and run as one module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

CHUNK = 8192  # pairs or entities computed at once


@dataclass(frozen=True)
class Shape:
    """Sizes of an ensemble: `ligands` and `proteins` count the inputs of the towers."""

    ligands: int
    proteins: int
    members: int
    hidden: int
    width: int
    head: int
    dropout: float = 0.0


class Linear(nn.Module):
    """One linear layer for each member: [members, n, inputs] to [members, n, outputs]."""

    def __init__(
        self, members: int, inputs: int, outputs: int, bias: bool = True
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        weight = torch.empty(members, inputs, outputs).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        offset = torch.empty(members, 1, outputs).uniform_(-bound, bound)
        self.bias = nn.Parameter(offset) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(x, self.weight)
        return torch.baddbmm(self.bias, x, self.weight)


class Norm(nn.Module):
    """Layer normalization with a scale and an offset for each member."""

    def __init__(self, members: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, size))
        self.bias = nn.Parameter(torch.zeros(members, 1, size))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.weight)


class Dropout(nn.Module):
    """Dropout with the same mask for all members; they differ enough, and masks are slow."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        kept = torch.rand(x.shape[1:], device=x.device) >= self.share
        return x * (kept.to(x.dtype) / (1 - self.share))


class Tower(nn.Module):
    """From an entity's row of similarities to its vector."""

    def __init__(self, inputs: int, shape: Shape) -> None:
        super().__init__()
        self.first = Linear(shape.members, inputs, shape.hidden)
        self.first_norm = Norm(shape.members, shape.hidden)
        self.dropout = Dropout(shape.dropout)
        self.second = Linear(shape.members, shape.hidden, shape.width)
        self.second_norm = Norm(shape.members, shape.width)

    def forward(self, rows: Tensor) -> Tensor:
        x = F.gelu(self.first_norm(self.first(rows)))
        vectors: Tensor = self.second_norm(self.second(self.dropout(x)))
        return vectors


class Ensemble(nn.Module):
    """The affinity of pairs in standard units, for each member.

    A pair's hidden layer is a linear map of both vectors and of their product, as in a low-rank
    model with side information; the maps of the vectors are computed once for each entity.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, members = shape, shape.members
        self.ligands = Tower(shape.ligands, shape)
        self.proteins = Tower(shape.proteins, shape)
        self.from_ligand = Linear(members, shape.width, shape.hidden)
        self.from_protein = Linear(members, shape.width, shape.hidden, bias=False)
        self.from_product = Linear(members, shape.width, shape.hidden, bias=False)
        self.dropout = Dropout(shape.dropout)
        self.head = Linear(members, shape.hidden, shape.head)
        self.out = Linear(members, shape.head, 1)

    def see_ligands(self, rows: Tensor) -> Tensor:
        """Vector and hidden part of each ligand, [members, n, width + hidden].

        Rows are [n, inputs], or [members, n, inputs] where members see different ones.
        """
        vectors = self.ligands(self._for_all(rows))
        return torch.cat([vectors, self.from_ligand(vectors)], 2)

    def see_proteins(self, rows: Tensor) -> Tensor:
        """As `see_ligands`, of proteins."""
        vectors = self.proteins(self._for_all(rows))
        return torch.cat([vectors, self.from_protein(vectors)], 2)

    def pair(self, ligands: Tensor, proteins: Tensor) -> Tensor:
        """Values [members, n] of n ligands and n proteins that were seen."""
        sizes = [self.shape.width, self.shape.hidden]
        (u, a), (v, b) = torch.split(ligands, sizes, 2), torch.split(proteins, sizes, 2)
        x = torch.baddbmm(a + b, u * v, self.from_product.weight)
        x = self.dropout(F.gelu(x))
        x = self.dropout(F.gelu(self.head(x)))
        values: Tensor = self.out(x).squeeze(2)
        return values

    def forward(
        self, ligand_rows: Tensor, protein_rows: Tensor, i: Tensor, j: Tensor
    ) -> Tensor:
        """Values [members, batch] of the pairs of rows `i` and `j`, int64 [members, batch]."""
        return self.pair(
            self._see(self.see_ligands, ligand_rows, i),
            self._see(self.see_proteins, protein_rows, j),
        )

    @torch.no_grad()
    def score(
        self, ligand_rows: Tensor, protein_rows: Tensor, i: Tensor, j: Tensor
    ) -> Tensor:
        """The same in parts of bounded size, on the CPU."""
        left = [self.see_ligands(one) for one in torch.split(ligand_rows, CHUNK)]
        right = [self.see_proteins(one) for one in torch.split(protein_rows, CHUNK)]
        ligands, proteins = torch.cat(left, 1), torch.cat(right, 1)
        values = [
            self.pair(_gather(ligands, one), _gather(proteins, other)).cpu()
            for one, other in zip(
                torch.split(i, CHUNK, 1), torch.split(j, CHUNK, 1), strict=True
            )
        ]
        return torch.cat(values, 1)

    def _for_all(self, rows: Tensor) -> Tensor:
        return rows.expand(self.shape.members, *rows.shape) if rows.dim() == 2 else rows

    @staticmethod
    def _see(tower: object, rows: Tensor, index: Tensor) -> Tensor:
        assert callable(tower)
        if len(rows) > index.shape[1]:
            seen: Tensor = tower(rows[index])
            return seen
        return _gather(tower(rows), index)


def _gather(seen: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [members, n] of `seen` [members, entities, size]."""
    members, entities, size = seen.shape
    offset = torch.arange(members, device=index.device)[:, None] * entities
    flat = F.embedding(index + offset, seen.reshape(members * entities, size))
    return flat.view(members, index.shape[1], size)


def clip_members(module: nn.Module, norm: float) -> None:
    """Scale each member's gradient down so that its norm is at most `norm`."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    squares = torch.stack([one.square().flatten(1).sum(1) for one in gradients])
    factor = (norm / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
    for one in gradients:
        one.mul_(factor.view(-1, *[1] * (one.dim() - 1)))


def load_ensemble(shape: Shape, tensors: Mapping[str, Tensor], device: str) -> Ensemble:
    """An ensemble of these weights, ready to answer; they stay where they are, unless to convert."""
    with torch.device("meta"):
        ensemble = Ensemble(shape)
    weights = {name: tensor.float() for name, tensor in tensors.items()}
    ensemble.load_state_dict(weights, assign=True)
    return ensemble.to(device).eval()
