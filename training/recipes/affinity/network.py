"""Training the ensemble of towers, all members in one loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.context import Context
from training.randomness import seed_everything
from training.recipes.affinity.pairs import Cells
from training.recipes.affinity.recipe import AffinityParams
from training.recipes.affinity.scale import Scale, Vector
from training.recipes.affinity.splits import TEAM
from training.recipes.affinity.towers import Ensemble, Shape, clip_members
from training.trainer import Trainer, TrainerConfig

SMALLEST_BATCH, LARGEST_BATCH = 32, 1024  # pairs
BATCHES = 16  # in an epoch, where the batch may be chosen
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Lesson:
    """What there is to learn: inputs of all entities, and the training pairs.

    `parts` has for each member the places of `cells` that it trains on and those it is judged on;
    `judged` are other pairs that all members together are judged on.
    """

    ligand_inputs: Tensor
    protein_inputs: Tensor
    cells: Cells
    scale: Scale
    parts: list[tuple[Places, Places]]
    judged: Cells | None

    @property
    def has_held_out(self) -> bool:
        """Whether the members have set pairs aside."""
        return bool(self.parts[0][1].size)


def batch_size(params: AffinityParams, pairs: int) -> int:
    """The batch size asked for, or a power of two that makes about sixteen batches."""
    if params.batch_size != "auto":
        return params.batch_size
    size: int = 2 ** round(math.log2(max(pairs / BATCHES, 1)))
    return max(SMALLEST_BATCH, min(LARGEST_BATCH, size))


def train_ensemble(
    lesson: Lesson,
    params: AffinityParams,
    context: Context,
    *,
    fingerprint: str,
    fractions: tuple[float, float],
) -> Ensemble:
    """The trained ensemble, on the CPU. Raises Stopped and Problem `diverged`."""
    seed_everything(params.seed)
    shape = Shape(
        lesson.ligand_inputs.shape[1],
        lesson.protein_inputs.shape[1],
        params.members,
        params.hidden,
        params.width,
        params.head,
        params.dropout,
    )
    course = Course(lesson, params, context.device)
    has_judge = lesson.judged is not None or lesson.has_held_out
    config = TrainerConfig(
        epochs=params.epochs,
        batch_size=batch_size(params, len(lesson.cells.affinity)),
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        optimizer=params.optimizer,
        schedule=params.schedule,
        warmup=params.warmup,
        clip_norm=params.clip_norm,
        accumulation=params.accumulation,
        patience=params.patience,
        seed=params.seed,
        precision=params.precision,
        monitor="val_mse" if has_judge else "loss",
        keep="best" if params.patience is not None else "last",
    )
    trainer = Trainer(
        Ensemble(shape),
        course.loss,
        course.size,
        config,
        context,
        validate=course.validate if has_judge else None,
        clip=clip_members,
        fingerprint=fingerprint,
        fractions=fractions,
    )
    trainer.fit()
    ensemble = trainer.module.cpu()
    assert isinstance(ensemble, Ensemble)
    return ensemble


class Course:
    """The lesson on its device: the loss of a batch, and the figures after an epoch."""

    def __init__(self, lesson: Lesson, params: AffinityParams, device: str) -> None:
        cells, self.scale = lesson.cells, lesson.scale
        self.lesson, self.slope = lesson, params.floor_slope
        self.members = params.members
        self.ligand_inputs = lesson.ligand_inputs.to(device)
        self.protein_inputs = lesson.protein_inputs.to(device)
        self.ligand = torch.from_numpy(cells.ligand).to(device)
        self.protein = torch.from_numpy(cells.protein).to(device)
        self.target = _float(self.scale.standard(cells.affinity), device)
        self.weight = _float(cells.weight / cells.weight.mean(), device)
        floor = self.scale.floor
        self.at_floor = torch.from_numpy(cells.affinity == floor).to(device)
        self.size = max(len(train) for train, _ in lesson.parts)
        self.orders = torch.stack(
            [
                _order(train, self.size, np.random.default_rng([params.seed, 3, n]))
                for n, (train, _) in enumerate(lesson.parts)
            ]
        ).to(device)

    def loss(self, module: nn.Module, indices: Tensor) -> Tensor:
        """Squared error in standard units; each member meets the pairs in an order of its own.

        A prediction below the floor, of a pair at the floor, is nearly right: what is not seen at
        the largest concentration may bind however weakly (Tobin, Econometrica 26 (1958) 24).
        """
        k = self.orders[:, indices]
        values = module(
            self.ligand_inputs, self.protein_inputs, self.ligand[k], self.protein[k]
        )
        error = values - self.target[k]
        if self.scale.floor is not None:
            is_free = self.at_floor[k] & (error < 0)
            error = torch.where(is_free, error * self.slope, error)
        by_member = (error.square() * self.weight[k]).mean(1)
        # The value is the members' mean; the gradient is their sum, so that each member steps
        # as it would alone.
        total = by_member.sum()
        return as_mean(total, self.members)

    def validate(self, module: nn.Module) -> Mapping[str, float]:
        """Mean squared error in the unit of the data, on pairs that were set aside."""
        assert isinstance(module, Ensemble)
        judged = self.lesson.judged
        if judged is not None:
            members = predict(module, self.ligand_inputs, self.protein_inputs, judged)
            values = self.scale.above_floor(self.scale.affinity(members).mean(0))
            return {"val_mse": _mse(values, judged)}
        errors = [
            _mse(self.scale.above_floor(values.mean(0)), cells)
            for cells, values in self.judge_teams(module)
        ]
        return {"val_mse": float(np.mean(errors))}

    def judge_teams(self, module: Ensemble) -> list[tuple[Cells, Vector]]:
        """For each team the pairs it has not trained on, and values [members of it, pairs]."""
        parts = [self.lesson.cells.take(judged) for _, judged in self.lesson.parts]
        longest = max(len(one.affinity) for one in parts)
        i = torch.stack([_fill(one.ligand, longest) for one in parts])
        j = torch.stack([_fill(one.protein, longest) for one in parts])
        device = self.ligand_inputs.device
        standard = module.score(
            self.ligand_inputs, self.protein_inputs, i.to(device), j.to(device)
        )
        values = self.scale.affinity(standard)
        return [
            (parts[n], values[n : n + TEAM, : len(parts[n].affinity)])
            for n in range(0, self.members, TEAM)
        ]


def as_mean(total: Tensor, members: int) -> Tensor:
    """A scalar with the value of the mean over the members and the gradient of their sum."""
    mean: Tensor = total - total.detach() * (1 - 1 / members)
    return mean


def predict(
    ensemble: Ensemble, ligand_inputs: Tensor, protein_inputs: Tensor, cells: Cells
) -> Tensor:
    """Standard values [members, n] of the pairs of `cells`."""
    i, j = (
        torch.from_numpy(one)
        .to(ligand_inputs.device)
        .expand(ensemble.shape.members, -1)
        for one in (cells.ligand, cells.protein)
    )
    return ensemble.score(ligand_inputs, protein_inputs, i, j)


def _order(places: Places, size: int, rng: np.random.Generator) -> Tensor:
    return _fill(rng.permutation(places), size)


def _fill(places: Places, size: int) -> Tensor:
    """The places, repeated until they are `size`."""
    return torch.from_numpy(np.resize(places, size))


def _float(values: NDArray[np.float64], device: str) -> Tensor:
    return torch.from_numpy(values).float().to(device)


def _mse(values: NDArray[np.float64], cells: Cells) -> float:
    return float(np.average((values - cells.affinity) ** 2, weights=cells.weight))
