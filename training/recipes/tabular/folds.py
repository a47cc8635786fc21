"""Members that each leave some rows out: their loss, and what they say of rows left out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.recipes.tabular.network import Network

CHUNK = 2048  # rows per member and forward pass


class Folds:
    """The training rows of a network whose member m leaves out fold m modulo `folds`.

    numbers and codes as the network's; y int64 class numbers or float32 standardised values;
    fold int64 [rows], 0 to `folds` - 1.
    """

    def __init__(
        self, numbers: Tensor, codes: Tensor, y: Tensor, fold: Tensor, folds: int
    ) -> None:
        self.numbers, self.codes, self.y, self.fold = numbers, codes, y, fold
        self.folds = folds
        self.rows = [(fold == one).nonzero()[:, 0] for one in range(folds)]

    def loss(self, module: nn.Module, indices: Tensor) -> Tensor:
        """The mean loss over members; its gradient is each member's own."""
        assert isinstance(module, Network)
        outs = torch.cat(module.members(self.numbers[indices], self.codes[indices]))
        own = torch.arange(module.shape.members, device=indices.device) % self.folds
        own = own.repeat(len(outs) // len(own))
        sees = own[:, None] != self.fold[indices]
        losses = member_losses(outs, self.y[indices].expand(len(outs), -1))
        share = len(indices) * (1 - 1 / self.folds)
        total = (losses * sees).sum() / share
        return total - (total - total / len(outs)).detach()

    def validate(self, module: nn.Module) -> dict[str, float]:
        """The mean loss of members on the rows that they left out."""
        assert isinstance(module, Network)
        total, count = 0.0, 0
        for member in range(min(module.shape.members, self.folds)):
            for rows in torch.split(self.rows[member], CHUNK):
                outs = self._said(module, member, rows)
                losses = member_losses(outs, self.y[rows].expand(len(outs), -1))
                total, count = total + float(losses.sum()), count + losses.numel()
        return {"validation_loss": total / count}

    def out_of_fold(self, network: Network) -> tuple[Tensor, list[Tensor]]:
        """The rows that some member of each kind left out, and each kind's answers for them."""
        parts: list[list[Tensor]] = [[] for _ in network.kinds]
        covered = self.rows[: network.shape.members]
        for member, left_out in enumerate(covered):
            for rows in torch.split(left_out, CHUNK):
                outs = self._said(network, member, rows)
                if network.shape.outputs > 1:
                    outs = outs.softmax(-1)
                for part, said in zip(
                    parts, outs.chunk(len(network.kinds)), strict=True
                ):
                    part.append(said.mean(0))
        return torch.cat(covered), [torch.cat(part) for part in parts]

    def _said(self, network: Network, member: int, rows: Tensor) -> Tensor:
        """What the members that leave out this fold say: [kinds * members, rows, outputs]."""
        _, vectors = network.encoding(self.numbers[rows], self.codes[rows])
        which = slice(member, None, self.folds)
        return torch.cat(network.some(which, vectors))


def member_losses(outs: Tensor, y: Tensor) -> Tensor:
    """Cross entropy or squared error of each member and row: [members, rows].

    outs: [members, rows, outputs]; y: [members, rows].
    """
    outs = outs.float()
    if outs.shape[-1] == 1:
        return (outs[..., 0] - y) ** 2
    return nn.functional.cross_entropy(outs.transpose(1, 2), y, reduction="none")


def clip_members(module: nn.Module, norm: float) -> None:
    """Scale each member's gradient down to that norm."""
    assert isinstance(module, Network)
    for kind in module.kinds:
        gradients = [p.grad for p in kind.parameters() if p.grad is not None]
        squares = torch.stack([(g**2).sum(dim=(1, 2)) for g in gradients]).sum(0)
        factor = (norm / squares.sqrt().clamp_min(1e-12)).clamp_max(1.0)
        for gradient in gradients:
            gradient *= factor[:, None, None]
