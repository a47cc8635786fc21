"""The linear member: ridge or softmax regression, its penalty chosen out of fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE_PENALTIES = tuple(10 ** (power / 2) for power in range(-4, 9))
SOFTMAX_PENALTIES = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
FEW_PENALTIES = (1000.0, 100.0, 10.0, 1.0)
LARGE = (
    5e8  # multiplications per step of all folds, above which fewer penalties are tried
)
CHUNK = 8192  # rows


@dataclass(frozen=True)
class Linear:
    """Weights float32 [inputs, outputs], bias [outputs], and what each row gets from the others.

    `out_of_fold` float32 [rows, outputs] comes from weights that did not see the row's fold.
    """

    weight: Tensor
    bias: Tensor
    out_of_fold: Tensor
    penalty: float


def fit_ridge(
    vectors: Tensor, y: Tensor, fold: Tensor, folds: int, tick: Callable[[], None]
) -> Linear:
    """Ridge regression of y [rows] on vectors [rows, inputs]; the bias is free.

    `fold` int64 [rows] is 0 to `folds` - 1; `tick` is called now and then and may raise.
    """
    grams, sides = [], []
    for number in range(folds):
        tick()
        rows = (fold == number).nonzero()[:, 0]
        parts = [_with_one(vectors[part]) for part in torch.split(rows, CHUNK)]
        targets = [y[part].double() for part in torch.split(rows, CHUNK)]
        grams.append(sum((one.T @ one for one in parts), start=torch.zeros(())))
        sides.append(
            sum(
                (one.T @ t for one, t in zip(parts, targets, strict=True)),
                start=torch.zeros(()),
            )
        )
    gram, side = torch.stack(grams), torch.stack(sides)
    without_each = gram.sum(0) - gram, side.sum(0) - side
    is_large = folds * vectors.shape[1] ** 3 > LARGE
    free = torch.ones(gram.shape[1], dtype=torch.float64)
    free[-1] = 1e-9
    best: tuple[float, float, Tensor] | None = None
    for penalty in FEW_PENALTIES if is_large else RIDGE_PENALTIES:
        guess = torch.zeros(len(vectors), dtype=torch.float64)
        for number in range(folds):
            tick()
            rows = fold == number
            weight = _solve(
                without_each[0][number], without_each[1][number], penalty * free
            )
            guess[rows] = _with_one(vectors[rows]) @ weight
        error = float(((guess - y) ** 2).mean())
        if best is None or error < best[0]:
            best = error, penalty, guess
    assert best is not None
    weight = _solve(gram.sum(0), side.sum(0), best[1] * free)
    return Linear(
        weight[:-1, None].float(),
        weight[-1:].float(),
        best[2][:, None].float(),
        best[1],
    )


def fit_softmax(
    vectors: Tensor,
    y: Tensor,
    classes: int,
    fold: Tensor,
    folds: int,
    tick: Callable[[], None],
) -> Linear:
    """Softmax regression of y int64 [rows] on vectors [rows, inputs]; the bias is free.

    All folds and the fit to all rows are one problem of `folds` + 1 parts, solved by L-BFGS from
    the strongest penalty on, until weaker ones no longer help.
    """
    rows, inputs = vectors.shape
    parts = folds + 1
    data = _with_one(vectors)
    seen = (fold[:, None] != torch.arange(parts)).double()
    weight = torch.zeros(inputs + 1, parts * classes, dtype=torch.float64)
    is_large = rows * weight.numel() > LARGE
    best: tuple[float, float, Tensor, Tensor] | None = None
    for penalty in FEW_PENALTIES if is_large else SOFTMAX_PENALTIES:
        weight = _descend(data, y, seen, weight, penalty, tick)
        logits = (data @ weight).view(rows, parts, classes)
        guess = logits[torch.arange(rows), fold]
        error = float(torch.nn.functional.cross_entropy(guess, y))
        if best is not None and error > best[0]:
            break
        best = error, penalty, weight, guess
    assert best is not None
    last = best[2][:, folds * classes :].float()
    return Linear(last[:-1], last[-1], best[3].float(), best[1])


def _descend(
    data: Tensor,
    y: Tensor,
    seen: Tensor,
    start: Tensor,
    penalty: float,
    tick: Callable[[], None],
) -> Tensor:
    rows, parts = seen.shape
    weight = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=60, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )
    goal = y[:, None].expand(rows, parts)

    def closure() -> Tensor:
        tick()
        optimizer.zero_grad()
        logits = (data @ weight).view(rows, parts, -1)
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), goal, reduction="none"
        )
        loss = ((losses * seen).sum() + penalty / 2 * (weight[:-1] ** 2).sum()) / rows
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach()


def _with_one(vectors: Tensor) -> Tensor:
    return torch.cat([vectors.double(), vectors.new_ones(len(vectors), 1).double()], 1)


def _solve(gram: Tensor, side: Tensor, penalties: Tensor) -> Tensor:
    found: Tensor = torch.linalg.solve(gram + torch.diag(penalties), side)
    return found
