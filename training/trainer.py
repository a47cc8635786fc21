"""The training loop: knows nothing of what is learned, only how to learn and how to go on."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from registry.errors import Problem
from training.checkpoints import Checkpoints
from training.context import Context, Stopped
from training.optimizers import clip_gradients, make_optimizer, rate_factor
from training.randomness import random_state, seed_everything, set_random_state

REPORT_EVERY = 0.25  # seconds between two reports of progress


@dataclass(frozen=True)
class TrainerConfig:
    """How to train.

    `warmup` is the fraction of all steps in which the learning rate rises; `patience` is in
    epochs without a better `monitor`; `keep` says whose weights the module has in the end.
    `accumulation` batches make one step. Precision `auto` is bfloat16 (or float16 with a scaled
    loss) on a GPU, and float32 elsewhere.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    warmup: float = 0.1
    clip_norm: float | None = None
    accumulation: int = 1
    patience: int | None = None
    seed: int = 0
    precision: Literal["auto", "full"] = "auto"
    monitor: str = "loss"
    direction: Literal["min", "max"] = "min"
    keep: Literal["best", "last"] = "best"


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
        self.module, self.loss, self.size = module.to(context.device), loss, size
        self.config, self.context, self.validate = config, context, validate
        self.clip, self.fractions, self.clock = clip or clip_gradients, fractions, clock
        self.batches = math.ceil(size / config.batch_size)
        self.steps = config.epochs * math.ceil(self.batches / config.accumulation)
        self.optimizer = make_optimizer(
            module, config.optimizer, config.learning_rate, config.weight_decay
        )
        self.half = (
            half_precision(context.device) if config.precision == "auto" else None
        )
        self.scaler = torch.amp.GradScaler(
            context.device, enabled=self.half == torch.float16
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
        if self.half is None:
            loss = self.loss(self.module, indices)
        else:
            with self._autocast():
                loss = self.loss(self.module, indices)
        part = loss
        if len(group) > 1:
            part = loss * (len(indices) / sum(len(one) for one in group))
        self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        state.loss_sum += self._finite(loss) * len(indices)
        state.seen += len(indices)
        state.batch += 1
        if state.batch == start + len(group):
            self._step()

    def _step(self) -> None:
        config, step = self.config, self.state.step
        factor = rate_factor(config.schedule, config.warmup, step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        if config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            self.clip(self.module, config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1

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

    def _finite(self, loss: Tensor) -> float:
        value = loss.item()
        if not math.isfinite(value):
            raise Problem(
                "diverged",
                f"The loss is not a finite number at step {self.state.step}; "
                "a lower learning rate or a clip_norm may help.",
            )
        return value

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
        gradients = {
            name: p.grad
            for name, p in self.module.named_parameters()
            if p.grad is not None
        }
        self.checkpoints.save(
            {
                "position": position,
                "weights": self.module.state_dict(),
                "best_weights": self.best_weights,
                "told": self.told,
                "gradients": gradients,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "random": random_state(),
            }
        )
        self.standing = position
        if self.state.step > self.first_step:
            self.context.saved(self.state.step)

    def _restore(self, found: dict[str, Any]) -> None:
        self.state.__dict__.update(found["position"])
        self.module.load_state_dict(found["weights"])
        self.best_weights = found["best_weights"]
        self.told = found["told"]
        # The supervisor may have died with what it had not yet written; a step stands once.
        for step, figures in self.told:
            self.context.metric(step, **figures)
        for name, parameter in self.module.named_parameters():
            parameter.grad = found["gradients"].get(name)
        self.optimizer.load_state_dict(found["optimizer"])
        if found["scaler"]:  # empty where the loss was not scaled
            self.scaler.load_state_dict(found["scaler"])
        set_random_state(found["random"])

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = torch.device(self.context.device).type
        return torch.autocast(kind, dtype=self.half)

    def _fingerprint(self, data: str) -> str:
        shapes = {name: list(v.shape) for name, v in self.module.state_dict().items()}
        # Without the defaults: a field that a later version adds leaves all checkpoints good.
        chosen = {
            one.name: value
            for one in fields(self.config)
            if (value := getattr(self.config, one.name)) != one.default
            or one.default is MISSING
        }
        parts = [chosen, shapes, self.size, data]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def half_precision(device: str) -> torch.dtype | None:
    """The fast float type of a GPU: bfloat16 where it has it, else float16; None on a CPU."""
    if torch.device(device).type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
