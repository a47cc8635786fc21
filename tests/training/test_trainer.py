from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from registry.errors import Problem
from training import checkpoints
from training.context import Context, Stopped
from training.randomness import seed_everything
from training.trainer import Trainer, TrainerConfig

SIZE = 101
torch.set_num_threads(1)


class Run:
    """A small regression with every kind of random state in its loop."""

    def __init__(
        self,
        home: Path,
        *,
        stop_after: int | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        noise: bool = False,
        loss: Callable[[nn.Module, Tensor], Tensor] | None = None,
        validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
        **config: Any,
    ) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.looks, self.stop_after, self.noise = 0, stop_after, noise
        seed_everything(1)
        self.x = torch.randn(SIZE, 5)
        self.y = self.x.sum(1, keepdim=True)
        self.module = nn.Sequential(
            nn.Linear(5, 8), nn.Dropout(0.2), nn.BatchNorm1d(8), nn.Linear(8, 1)
        )
        values = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "seed": 3}
        self.trainer = Trainer(
            self.module,
            loss or self.loss,
            SIZE,
            TrainerConfig(**{**values, **config}),
            Context(
                home / "checkpoints",
                home / "output",
                home / "scratch",
                report=self.events.append,
                should_stop=self.should_stop,
            ),
            validate=validate or self.validate,
            clock=clock,
        )

    def loss(self, module: nn.Module, indices: Tensor) -> Tensor:
        x = self.x[indices]
        if self.noise:
            x = x + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return (module(x) - self.y[indices]).square().mean()

    def validate(self, module: nn.Module) -> dict[str, float]:
        return {"val_mse": (module(self.x) - self.y).square().mean().item()}

    def should_stop(self) -> bool:
        self.looks += 1
        return self.stop_after is not None and self.looks > self.stop_after

    def fit(self) -> Run:
        self.trainer.fit()
        return self

    @property
    def weights(self) -> dict[str, Tensor]:
        return {k: v.clone() for k, v in self.module.state_dict().items()}

    @property
    def metrics(self) -> list[tuple[int, dict[str, float]]]:
        return [(e["step"], e["values"]) for e in self.events if e["event"] == "metric"]

    @property
    def progress(self) -> list[Mapping[str, Any]]:
        return [e for e in self.events if e["event"] == "progress"]


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_training_stopped_at_any_step_ends_as_one_never_stopped(
    tmp_path: Path, optimizer: str, accumulation: int
) -> None:
    config = {"optimizer": optimizer, "accumulation": accumulation, "clip_norm": 1.0}
    whole = Run(tmp_path / "whole", noise=True, **config).fit()
    for stop in (0, 1, 7, 13, 27):
        home = tmp_path / str(stop)
        first = Run(home, noise=True, stop_after=stop, **config)
        with pytest.raises(Stopped):
            first.fit()
        random.seed(99)
        second = Run(home, noise=True, **config).fit()
        assert same(whole.weights, second.weights)
        # All of them, for what the first reported may have been lost with its worker.
        assert second.metrics == whole.metrics


def test_a_training_stopped_many_times_ends_as_one_never_stopped(
    tmp_path: Path,
) -> None:
    whole = Run(tmp_path / "whole", noise=True).fit()
    for _ in range(100):
        part = Run(tmp_path / "parts", noise=True, stop_after=5)
        try:
            part.fit()
        except Stopped:
            continue
        break
    assert same(whole.weights, part.weights)
    assert part.metrics == whole.metrics


def test_a_finished_training_started_again_gives_the_same_weights_at_once(
    tmp_path: Path,
) -> None:
    first = Run(tmp_path).fit()
    second = Run(tmp_path).fit()
    assert same(first.weights, second.weights)
    assert second.metrics == first.metrics
    assert second.looks == 0


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    tmp_path: Path,
) -> None:
    one, other, third = (
        Run(tmp_path / str(n), seed=seed).fit() for n, seed in enumerate([3, 3, 4])
    )
    assert same(one.weights, other.weights)
    assert not same(one.weights, third.weights)


def test_without_resume_a_checkpoint_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Run(tmp_path, stop_after=9).fit()
    run = Run(tmp_path)
    run.trainer.context.resume = False
    run.fit()
    assert run.metrics == Run(tmp_path / "other").fit().metrics


def test_a_checkpoint_of_other_parameters_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Run(tmp_path, stop_after=9).fit()
    run = Run(tmp_path, learning_rate=0.02).fit()
    assert len(run.metrics) == 4
    assert any("other parameters" in e.get("text", "") for e in run.events)


def test_the_wish_to_stop_is_looked_at_before_every_batch(tmp_path: Path) -> None:
    run = Run(tmp_path).fit()
    assert run.looks == 4 * 7


def test_a_checkpoint_is_left_every_two_seconds(tmp_path: Path) -> None:
    now, saved = [0.0], list[float]()
    run = Run(tmp_path, clock=lambda: now[0])
    learn, save = run.loss, run.trainer.checkpoints.save

    def loss(module: nn.Module, indices: Tensor) -> Tensor:
        now[0] += 0.75
        return learn(module, indices)

    def count(state: dict[str, Any]) -> None:
        saved.append(now[0])
        save(state)

    run.trainer.learner.loss = loss
    run.trainer.checkpoints.save = count  # type: ignore[method-assign]
    run.fit()
    assert saved[:3] == [2.25, 4.5, 6.75]
    assert saved[-1] == 28 * 0.75


def test_checkpoints_that_take_long_are_rarer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    run = Run(tmp_path, clock=lambda: now[0])

    def slow(directory: Path) -> None:
        now[0] += 3.0

    monkeypatch.setattr(checkpoints, "fsync_directory", slow)
    run.fit()
    assert run.trainer.checkpoints.save_every == pytest.approx(150)


def test_progress_rises_to_one_and_is_told_four_times_a_second(tmp_path: Path) -> None:
    ticks = iter(range(10_000))
    run = Run(tmp_path, clock=lambda: next(ticks) * 0.05).fit()
    fractions = [one["fraction"] for one in run.progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(fractions) < 28
    assert run.progress[-1]["step"] == run.progress[-1]["steps"] == 28


def test_patience_ends_a_training_that_gets_no_better(tmp_path: Path) -> None:
    figures = iter([3.0, 2.0, 2.5, 2.5, 2.5, 1.0])
    run = Run(
        tmp_path,
        epochs=6,
        patience=2,
        monitor="val",
        validate=lambda module: {"val": next(figures)},
    ).fit()
    assert [values["val"] for _, values in run.metrics] == [3.0, 2.0, 2.5, 2.5]


def test_patience_counts_on_after_a_stop(tmp_path: Path) -> None:
    config: dict[str, Any] = {"epochs": 6, "patience": 2, "monitor": "val"}
    first = iter([3.0, 2.0, 2.5])
    with pytest.raises(Stopped):
        Run(
            tmp_path,
            stop_after=21,
            validate=lambda module: {"val": next(first)},
            **config,
        ).fit()
    second = iter([2.5, 1.0, 1.0])
    run = Run(tmp_path, validate=lambda module: {"val": next(second)}, **config).fit()
    assert len(run.metrics) == 4


def test_the_best_weights_are_kept_unless_the_last_are_wanted(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def validate(module: nn.Module) -> dict[str, float]:
        seen.append(next(module.parameters()).detach().clone())
        return {"val": float(len(seen) % 4 != 2)}

    best = Run(tmp_path / "best", monitor="val", validate=validate).fit()
    assert torch.equal(next(best.module.parameters()), seen[1])
    last = Run(tmp_path / "last", monitor="val", validate=validate, keep="last").fit()
    assert torch.equal(next(last.module.parameters()), seen[-1])


def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path: Path) -> None:
    seed_everything(1)
    x = torch.randn(SIZE, 5)

    def loss(module: nn.Module, indices: Tensor) -> Tensor:
        assert isinstance(module, nn.Sequential)
        return module[0](x[indices]).square().mean()

    config: dict[str, Any] = {"epochs": 2, "loss": loss, "optimizer": "sgd"}
    whole = Run(tmp_path / "whole", batch_size=SIZE, **config).fit()
    parts = Run(tmp_path / "parts", batch_size=20, accumulation=6, **config).fit()
    for name, tensor in whole.weights.items():
        torch.testing.assert_close(tensor, parts.weights[name])


def test_clip_norm_bounds_the_gradient(tmp_path: Path) -> None:
    norms: list[float] = []
    run = Run(tmp_path, clip_norm=1e-3)
    step = run.trainer.learner.optimizer.step

    def look(*args: Any) -> Any:
        grads = [p.grad for p in run.module.parameters() if p.grad is not None]
        norms.append(torch.stack([g.norm() for g in grads]).norm().item())
        return step(*args)

    run.trainer.learner.optimizer.step = look  # type: ignore[method-assign]
    run.fit()
    assert max(norms) <= 1.01e-3


def test_a_loss_that_is_no_number_is_told_as_such(tmp_path: Path) -> None:
    def loss(module: nn.Module, indices: Tensor) -> Tensor:
        assert isinstance(module, nn.Sequential)
        return module[0](torch.full((2, 5), torch.nan)).mean()

    with pytest.raises(Problem, match="learning rate") as caught:
        Run(tmp_path, loss=loss).fit()
    assert caught.value.code == "diverged"
