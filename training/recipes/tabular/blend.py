"""How much each kind of member counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

STEPS = 20  # shares are multiples of one of these
MOST_ROWS = 20_000
SMALLEST = 1e-15  # probability, so that the log loss stays finite


def choose_blend(answers: Sequence[Tensor], y: Tensor) -> list[float]:
    """Shares of the answers, a sum of 1, for rows that none of them learned from.

    Of all blends whose loss is within two standard errors of the least, the most even: on few
    rows the least is chance. answers: each [rows, outputs], probabilities or values; y: [rows].
    """
    shares = torch.tensor(list(_shares(len(answers), STEPS))).double() / STEPS
    y = y[:MOST_ROWS]
    said = [one[:MOST_ROWS].double() for one in answers]
    if said[0].shape[1] == 1:
        losses = (torch.cat(said, 1) @ shares.T - y[:, None]) ** 2
    else:
        true = torch.cat([one.gather(1, y[:, None]) for one in said], 1)
        losses = -(true @ shares.T).clamp_min(SMALLEST).log()
    worse = losses - losses[:, losses.mean(0).argmin(), None]
    error = worse.std(0, correction=0) / len(y) ** 0.5
    unevenness = (shares**2).sum(1)
    unevenness[worse.mean(0) > 2 * error] = torch.inf
    return [float(share) for share in shares[unevenness.argmin()]]


def _shares(count: int, total: int) -> Iterator[list[int]]:
    """All ways to share `total` among `count`."""
    if count == 1:
        yield [total]
        return
    for first in range(total + 1):
        for rest in _shares(count - 1, total - first):
            yield [first, *rest]
