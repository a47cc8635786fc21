"""Training of a tabular model, from the CSV file to the model directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from registry.errors import BadData
from training.bundle import save_bundle
from training.context import Context
from training.randomness import seed_everything
from training.recipes.tabular.bins import bin_edges
from training.recipes.tabular.blend import choose_blend
from training.recipes.tabular.dataset import Dataset, read_dataset
from training.recipes.tabular.folds import Folds, clip_members
from training.recipes.tabular.linear import Linear, fit_ridge, fit_softmax
from training.recipes.tabular.metrics import (
    classification_metrics,
    regression_metrics,
)
from training.recipes.tabular.network import Network, Shape
from training.recipes.tabular.recipe import TabularParams
from training.recipes.tabular.signature import make_signature
from training.recipes.tabular.split import assign_folds
from training.trainer import Trainer, TrainerConfig

CHUNK = 2048  # rows per forward pass


def fit(params: TabularParams, dataset: Path, context: Context) -> None:
    """Train on the CSV file `dataset` and write the model to `context.output`.

    Raises BadData, Problem `invalid` or `diverged`, and Stopped.
    """
    context.progress(fraction=0.0, stage="reading")
    data = read_dataset(dataset, params, context.stop_if_asked)
    for note in data.notes:
        context.note(note)
    Fitting(params, data, context).run()


class Fitting:
    """One training: the linear member, then the networks, then their blend."""

    def __init__(self, params: TabularParams, data: Dataset, context: Context) -> None:
        self.params, self.data, self.context = params, data, context
        seed_everything(params.seed)
        self.labels = data.target.labels
        self.learned = np.flatnonzero(~data.test)
        self.tested = np.flatnonzero(data.test)
        self.numbers = torch.from_numpy(data.numbers)
        self.codes = torch.from_numpy(data.codes)
        y = data.y[self.learned]
        self.center, self.scale = (0.0, 1.0) if self.labels else _moments(y, data)
        self.y = (
            torch.from_numpy(y.astype(np.int64))
            if self.labels
            else torch.from_numpy((y - self.center) / self.scale).float()
        )
        self.fold_count = min(round(1 / params.validation_fraction), len(y))
        fold = assign_folds(y, data.target, self.fold_count, params.seed)
        self.fold = torch.from_numpy(fold)
        edges = bin_edges(data.numbers[self.learned], params.bins)
        self.network = self._network(edges)

    def run(self) -> None:
        baselines = {"trivial": self._tell("trivial", self._trivial())}
        linear = self._linear()
        baselines["linear"] = self._tell("linear", self._held_out(self.tested))
        config = self._config()
        trainer = self._train(config)
        validation = self._blend(linear)
        self.context.progress(fraction=0.98, stage="testing")
        held_out = self._held_out(self.tested)
        metrics = held_out or validation
        self.context.metric(trainer.state.step, **metrics)
        self._save(config, baselines, metrics, validation)
        self.context.progress(fraction=1.0, stage="done")

    def _network(self, edges: list[tuple[int, float, float]]) -> Network:
        data, params = self.data, self.params
        numbers = [column for column in data.columns if column.is_number]
        network = Network(
            Shape(
                numbers=len(numbers),
                gaps=tuple(i for i, one in enumerate(numbers) if one.has_gaps),
                levels=tuple(one.levels for one in data.columns if not one.is_number),
                bins=len(edges),
                hidden=tuple(params.hidden),
                members=params.members,
                dropout=params.dropout,
                outputs=len(self.labels) or 1,
            )
        )
        if edges:
            feature, low, high = (torch.tensor(one) for one in zip(*edges, strict=True))
            network.encoding.feature.copy_(feature)
            network.encoding.low.copy_(low)
            network.encoding.width.copy_(high - low)
        network.center.fill_(self.center)
        network.scale.fill_(self.scale)
        return network

    def _linear(self) -> Linear:
        """Fit the linear member and put it into the network as all of the blend."""
        self.context.progress(fraction=0.01, stage="linear model")
        network, tick = self.network, self.context.stop_if_asked
        with torch.no_grad():
            vectors, _ = network.encoding(*self._rows(self.learned))
        fold, count = self.fold, self.fold_count
        linear = (
            fit_softmax(vectors, self.y, len(self.labels), fold, count, tick)
            if self.labels
            else fit_ridge(vectors, self.y, fold, count, tick)
        )
        network.weight.copy_(linear.weight)
        network.bias.copy_(linear.bias)
        network.blend[0] = 1.0
        return linear

    def _trivial(self) -> dict[str, float]:
        """Metrics of the class shares or the mean of the training rows."""
        if len(self.tested) == 0:
            return {}
        y = self.data.y[self.learned]
        guess = np.array([y.mean()])
        if self.labels:
            guess = np.bincount(y.astype(np.int64), minlength=len(self.labels)) / len(y)
        return self._metrics(np.tile(guess, (len(self.tested), 1)), self.tested)

    def _tell(self, name: str, metrics: dict[str, float]) -> dict[str, float]:
        """Report a baseline's metrics at once."""
        if metrics:
            self.context.metric(0, **{f"{name}_{k}": v for k, v in metrics.items()})
        return metrics

    def _config(self) -> TrainerConfig:
        params = self.params
        rows = len(self.learned)
        return TrainerConfig(
            epochs=params.epochs,
            batch_size=params.batch_size or min(max(_power_of_two(rows / 16), 64), 512),
            learning_rate=params.learning_rate,
            weight_decay=params.weight_decay,
            optimizer=params.optimizer,
            schedule=params.schedule,
            warmup=params.warmup,
            clip_norm=params.clip_norm,
            accumulation=params.accumulation,
            patience=params.patience,
            seed=params.seed,
            monitor="validation_loss",
        )

    def _train(self, config: TrainerConfig) -> Trainer:
        device = self.context.device
        numbers, codes = self._rows(self.learned)
        folds = Folds(
            numbers.to(device),
            codes.to(device),
            self.y.to(device),
            self.fold.to(device),
            self.fold_count,
        )
        trainer = Trainer(
            self.network,
            folds.loss,
            len(self.learned),
            config,
            self.context,
            validate=folds.validate,
            clip=clip_members,
            fingerprint=self.data.digest
            + self.params.model_dump_json(exclude_defaults=True),
            fractions=(0.02, 0.97),
        )
        trainer.fit()
        self.network.cpu().eval()
        self.folds = Folds(numbers, codes, self.y, self.fold, self.fold_count)
        return trainer

    @torch.no_grad()
    def _blend(self, linear: Linear) -> dict[str, float]:
        """Choose the shares of linear member and networks; their out-of-fold metrics."""
        network = self.network
        rows, said = self.folds.out_of_fold(network)
        first = linear.out_of_fold[rows]
        answers = [first.softmax(-1) if self.labels else first, *said]
        shares = choose_blend(answers, self.y[rows])
        network.blend.copy_(torch.tensor(shares))
        mixed = torch.stack([s * one for s, one in zip(shares, answers, strict=True)])
        guess = mixed.sum(0)
        learned = self.learned[rows.numpy()]
        if not self.labels:
            spread = self._predict(learned)[:, 1] / self.scale
            error = (guess[:, 0] - self.y[rows]) ** 2
            network.noise.copy_((error - spread**2).mean().clamp_min(0).sqrt())
        values = guess * self.scale + self.center
        return self._metrics(values.numpy(), learned)

    def _held_out(self, rows: np.ndarray[Any, Any]) -> dict[str, float]:
        return self._metrics(self._predict(rows).numpy(), rows) if len(rows) else {}

    @torch.no_grad()
    def _predict(self, rows: np.ndarray[Any, Any]) -> Tensor:
        self.network.eval()
        numbers, codes = self._rows(rows)
        return torch.cat(
            [
                self.network(*pair)
                for pair in zip(
                    torch.split(numbers, CHUNK), torch.split(codes, CHUNK), strict=True
                )
            ]
        )

    def _rows(self, rows: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        return self.numbers[rows], self.codes[rows]

    def _metrics(
        self, guess: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]
    ) -> dict[str, float]:
        y = self.data.y[rows]
        if self.labels:
            return classification_metrics(guess, y.astype(np.int64))
        return regression_metrics(guess[:, 0], y)

    def _save(
        self,
        config: TrainerConfig,
        baselines: dict[str, dict[str, float]],
        metrics: dict[str, float],
        validation: dict[str, float],
    ) -> None:
        data, network = self.data, self.network
        names = ["linear", "plain", "binned"]
        save_bundle(
            self.context.output,
            recipe="tabular",
            params=self.params.model_dump(),
            tensors=network.state_dict(),
            config={
                "task": data.target.task,
                "target": data.target.name,
                "labels": list(data.target.labels),
                "columns": [column.as_dict() for column in data.columns],
                "ignored": list(data.ignored),
                "shape": network.shape.as_dict(),
                "batch_size": config.batch_size,
            },
            signature=make_signature(data),
            metrics={
                **metrics,
                "measured_on": "test" if data.test.any() else "out_of_fold",
                "rows": {"train": len(self.learned), "test": int(data.test.sum())},
                "baselines": baselines,
                "validation": validation,
                "blend": dict(zip(names, network.blend.tolist(), strict=False)),
            },
        )


def _moments(y: np.ndarray[Any, Any], data: Dataset) -> tuple[float, float]:
    """Mean and standard deviation. Raises BadData if there is none that serves."""
    with np.errstate(over="ignore", invalid="ignore"):
        center, scale = float(y.mean()), float(y.std())
    if not np.isfinite([center, scale]).all() or scale == 0:
        raise BadData(
            "the target is too large, or the same in all rows to learn from",
            column=data.target.name,
        )
    return center, scale


def _power_of_two(value: float) -> int:
    return int(2 ** round(np.log2(max(value, 1))))
