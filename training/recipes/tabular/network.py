"""The module of a tabular model: one encoding, a linear member, and two kinds of networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """All that fixes the sizes of a network.

    `gaps` are the numbers (by place) that may be missing, `levels` the codes above 0 of each
    category column, `bins` the piecewise-linear bins in all; `outputs` is the number of classes,
    or 1. There are `members` networks of each kind; the binned kind only if there are bins.
    """

    numbers: int
    gaps: tuple[int, ...]
    levels: tuple[int, ...]
    bins: int
    hidden: tuple[int, ...]
    members: int
    dropout: float
    outputs: int

    def as_dict(self) -> dict[str, Any]:
        return {
            k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shape:
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **lists})


class Encoding(nn.Module):
    """Numbers and category codes as vectors.

    Piecewise-linear bins follow Gorishniy et al. (arXiv 2203.05556), smooth clipping at three
    standard deviations Holzmueller et al. (arXiv 2407.04491). Code 0 is all zeros.
    """

    gaps: Tensor
    starts: Tensor
    feature: Tensor
    low: Tensor
    width: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        starts = [sum(shape.levels[:i]) for i in range(len(shape.levels))]
        self.one_hot = sum(shape.levels)
        self.plain_size = shape.numbers + len(shape.gaps) + self.one_hot
        self.size = self.plain_size + shape.bins
        self.register_buffer("gaps", torch.tensor(shape.gaps, dtype=torch.int64))
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.int64))
        self.register_buffer("feature", torch.zeros(shape.bins, dtype=torch.int64))
        self.register_buffer("low", torch.zeros(shape.bins))
        self.register_buffer("width", torch.ones(shape.bins))

    def forward(self, numbers: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors for the linear member [N, plain_size] and for the networks [N, size].

        numbers: [N, numbers] in standard deviations, NaN where missing; codes: int64
        [N, categories]. The first plain_size entries of the second are the plain network's.
        """
        gaps = numbers.isnan()[:, self.gaps].to(numbers.dtype)
        filled = numbers.nan_to_num(0.0)
        # Not len(), by which an export takes the number of rows for fixed.
        hot = numbers.new_zeros(numbers.shape[0], self.one_hot + 1)
        if len(self.starts):
            hot = hot.scatter(1, torch.where(codes > 0, codes + self.starts, 0), 1.0)
        hot = hot[:, 1:]
        clipped = filled / torch.sqrt(1 + (filled / 3) ** 2)
        bins = ((filled[:, self.feature] - self.low) / self.width).clamp(0, 1)
        plain = torch.cat([filled, gaps, hot], dim=1)
        return plain, torch.cat([clipped, gaps, hot, bins], dim=1)


class Members(nn.Module):
    """Several multilayer perceptrons of one shape, computed together."""

    def __init__(self, inputs: int, shape: Shape) -> None:
        super().__init__()
        self.inputs = inputs
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        sizes = [inputs, *shape.hidden, shape.outputs]
        for size, following in pairwise(sizes):
            bound = 1 / math.sqrt(size)
            weight = torch.empty(shape.members, size, following)
            bias = torch.empty(shape.members, 1, following)
            self.weights.append(nn.Parameter(weight.uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(bias.uniform_(-bound, bound)))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, vectors: Tensor, which: slice = slice(None)) -> Tensor:
        """Vectors [N, size] to [members, N, outputs], for some of the members."""
        layers = [
            (weight[which], bias[which])
            for weight, bias in zip(self.weights, self.biases, strict=True)
        ]
        state = vectors[:, : self.inputs].expand(len(layers[0][0]), -1, -1)
        for place, (weight, bias) in enumerate(layers):
            if place:
                state = self.dropout(nn.functional.silu(state))
            state = torch.baddbmm(bias, state, weight)
        return state


class Network(nn.Module):
    """The blend of the linear member, plain networks and binned networks.

    With one output the answer is a value and its standard deviation, else probabilities.
    """

    weight: Tensor
    bias: Tensor
    blend: Tensor
    center: Tensor
    scale: Tensor
    noise: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.encoding = Encoding(shape)
        sizes = [self.encoding.plain_size] + [self.encoding.size] * (shape.bins > 0)
        self.kinds = nn.ModuleList(Members(size, shape) for size in sizes)
        plain = self.encoding.plain_size
        self.register_buffer("weight", torch.zeros(plain, shape.outputs))
        self.register_buffer("bias", torch.zeros(shape.outputs))
        self.register_buffer("blend", torch.zeros(1 + len(sizes)))
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("noise", torch.zeros(()))

    def members(self, numbers: Tensor, codes: Tensor) -> list[Tensor]:
        """For each kind of network, what its members say: [members, N, outputs]."""
        _, vectors = self.encoding(numbers, codes)
        return self.some(slice(None), vectors)

    def some(self, which: slice, vectors: Tensor) -> list[Tensor]:
        """The same of some members only, from encoded vectors [N, size]."""
        return [kind(vectors, which) for kind in self.kinds]

    def answers(self, numbers: Tensor, codes: Tensor) -> list[Tensor]:
        """The linear member's and each kind's answers: [members, N, outputs], probabilities or
        standardised values."""
        plain, vectors = self.encoding(numbers, codes)
        linear = (plain @ self.weight + self.bias)[None]
        found = [linear, *self.some(slice(None), vectors)]
        return found if self.shape.outputs == 1 else [one.softmax(-1) for one in found]

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """[N, classes] probabilities, or [N, 2] values and standard deviations."""
        answers = self.answers(numbers, codes)
        mean = self._mixed([one.mean(0) for one in answers])
        if self.shape.outputs > 1:
            return mean
        spread = self._mixed([((one - mean) ** 2).mean(0) for one in answers])
        deviation = torch.sqrt(spread + self.noise**2)
        return torch.cat([self.center + self.scale * mean, self.scale * deviation], 1)

    def _mixed(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(
            [share * part for share, part in zip(self.blend, parts, strict=True)]
        ).sum(0)
