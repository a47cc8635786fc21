"""The training loop: knows nothing of what is learned, only how to learn and how to go on."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.checkpoints import Checkpoints
from training.context import Context, Stopped
from training.learner import Learner
from training.randomness import random_state, seed_everything, set_random_state
from training.trainer_config import TrainerConfig

__all__ = ["Trainer", "TrainerConfig"]

REPORT_EVERY = 0.25  # seconds between two reports of progress


@dataclass
class State:
    """Where a training is; with weights, optimizer and random states it is all there is to it."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seen: int = 0
    best: float | None = None
    since_best: int = 0


class Trainer:
    """Minimises `loss(module, indices)` over the examples 0 to `size` - 1.

    `indices` is int64 of shape [batch] on the module's device, and the loss their mean, a scalar.
    `validate(module)` gives named figures after each epoch, with the module in evaluation mode and
    without gradients; the loss and these are the metrics, of which `monitor` is one. It may raise
    Stopped if it has drawn no random numbers by then. `clip` scales the gradients down to a norm.
    `fingerprint` tells trainings of different data apart. The task's progress moves through the two
    `fractions`. Stopped or killed at any step and made anew with the same arguments, it ends with
    the same bytes in the weights as if it had not been.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[[nn.Module, Tensor], Tensor],
        size: int,
        config: TrainerConfig,
        context: Context,
        *,
        validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
        clip: Callable[[nn.Module, float], None] | None = None,
        fingerprint: str = "",
        fractions: tuple[float, float] = (0.0, 1.0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.module, self.size = module.to(context.device), size
        self.config, self.context, self.validate = config, context, validate
        self.fractions, self.clock = fractions, clock
        self.batches = math.ceil(size / config.batch_size)
        self.steps = config.epochs * math.ceil(self.batches / config.accumulation)
        self.learner = Learner(
            self.module,
            loss,
            config,
            steps=self.steps,
            device=context.device,
            clip=clip,
        )
        self.checkpoints = Checkpoints(
            context.checkpoints, self._fingerprint(fingerprint), context.note, clock
        )
        self.state = State()
        self.best_weights: dict[str, Tensor] | None = None
        self.told: list[tuple[int, dict[str, float]]] = []

    def fit(self) -> None:
        """Train to the end. Raises Stopped after a checkpoint, and Problem `diverged`."""
        self._begin()
        config, state = self.config, self.state
        while state.epoch < config.epochs and not self._is_patience_over():
            self.module.train()
            batches = self._batches()
            while state.batch < len(batches):
                if self.context.should_stop():
                    self._save()
                    raise Stopped
                self._learn(batches)
                self._report()
                if self.context.should_save() or self.checkpoints.is_due:
                    self._save()
            self._end_epoch()
        self._save()
        if config.keep == "best" and self.best_weights is not None:
            self.module.load_state_dict(self.best_weights)
        self.module.eval()
        self._report(final=True)

    def _begin(self) -> None:
        self.started, self.reported = self.clock(), -math.inf
        seed_everything(self.config.seed)
        found = (
            self.checkpoints.load(self.context.device) if self.context.resume else None
        )
        if found is not None:
            self._restore(found)
            self.context.note(
                f"Goes on from a checkpoint at step {self.state.step} of {self.steps}."
            )
        self.first_step = self.state.step
        self.standing = asdict(self.state) if found is not None else {}

    def _batches(self) -> tuple[Tensor, ...]:
        """This epoch's batches, their sizes differing by one at most."""
        seed = (self.config.seed << 20) + self.state.epoch
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(seed))
        return order.to(self.context.device).tensor_split(self.batches)

    def _learn(self, batches: tuple[Tensor, ...]) -> None:
        """Learn from one batch; the last of a group of `accumulation` makes the step."""
        state, config = self.state, self.config
        start = state.batch - state.batch % config.accumulation
        group = batches[start : start + config.accumulation]
        indices = batches[state.batch]
        whole = sum(len(one) for one in group)
        loss = self.learner.learn(indices, len(indices) / whole, state.step)
        state.loss_sum += loss * len(indices)
        state.seen += len(indices)
        state.batch += 1
        if state.batch == start + len(group):
            self.learner.step(state.step)
            state.step += 1

    def _end_epoch(self) -> None:
        state = self.state
        figures = {"loss": state.loss_sum / state.seen}
        if self.validate is not None:
            self.module.eval()
            try:
                with torch.no_grad():
                    figures |= self.validate(self.module)
            except Stopped:
                self._save()
                raise
        self.context.metric(state.step, **figures)
        self.told.append((state.step, figures))
        value = figures[self.config.monitor]
        sign = 1 if self.config.direction == "min" else -1
        if state.best is None or sign * value < sign * state.best:
            state.best, state.since_best = value, 0
            if self.config.keep == "best":
                weights = self.module.state_dict()
                self.best_weights = {k: v.clone() for k, v in weights.items()}
        else:
            state.since_best += 1
        state.epoch, state.batch, state.loss_sum, state.seen = (
            state.epoch + 1,
            0,
            0.0,
            0,
        )

    def _is_patience_over(self) -> bool:
        patience = self.config.patience
        return patience is not None and self.state.since_best >= patience

    def _report(self, *, final: bool = False) -> None:
        now, state, config = self.clock(), self.state, self.config
        if now - self.reported < REPORT_EVERY and not final:
            return
        self.reported = now
        low, high = self.fractions
        done = 1.0 if final else state.step / self.steps
        pace = (now - self.started) / max(state.step - self.first_step, 1)
        self.context.progress(
            fraction=low + (high - low) * done,
            stage="training",
            epoch=min(state.epoch + 1, config.epochs),
            epochs=config.epochs,
            step=state.step,
            steps=self.steps,
            eta=0.0 if final else pace * (self.steps - state.step),
        )

    def _save(self) -> None:
        """Leave a checkpoint here, unless one stands."""
        position = asdict(self.state)
        if position == self.standing:
            return
        self.checkpoints.save(
            {
                **self.learner.standing(),
                "position": position,
                "best_weights": self.best_weights,
                "told": self.told,
                "random": random_state(),
            }
        )
        self.standing = position
        if self.state.step > self.first_step:
            self.context.saved(self.state.step)

    def _restore(self, found: dict[str, Any]) -> None:
        self.state.__dict__.update(found["position"])
        self.learner.restore(found)
        self.best_weights = found["best_weights"]
        self.told = found["told"]
        # The supervisor may have died with what it had not yet written; a step stands once.
        for step, figures in self.told:
            self.context.metric(step, **figures)
        set_random_state(found["random"])

    def _fingerprint(self, data: str) -> str:
        shapes = {name: list(v.shape) for name, v in self.module.state_dict().items()}
        parts = [self.config.chosen(), shapes, self.size, data]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
