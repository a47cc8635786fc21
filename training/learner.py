"""Learning from one batch, and the step that one batch or several make."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from registry.errors import Problem
from training.optimizers import clip_gradients, make_optimizer, rate_factor
from training.trainer_config import TrainerConfig


class Learner:
    """A module with its loss and optimizer; for the arguments see Trainer.

    `steps` are those of the whole training.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[[nn.Module, Tensor], Tensor],
        config: TrainerConfig,
        *,
        steps: int,
        device: str,
        clip: Callable[[nn.Module, float], None] | None,
    ) -> None:
        self.module, self.loss, self.config = module, loss, config
        self.steps, self.device, self.clip = steps, device, clip or clip_gradients
        self.optimizer = make_optimizer(
            module, config.optimizer, config.learning_rate, config.weight_decay
        )
        self.half = half_precision(device) if config.precision == "auto" else None
        self.scaler = torch.amp.GradScaler(device, enabled=self.half == torch.float16)

    def learn(self, indices: Tensor, share: float, step: int) -> float:
        """Add the gradients of a batch that has this share of a step; its loss.

        Raises Problem `diverged`.
        """
        if self.half is None:
            loss = self.loss(self.module, indices)
        else:
            with self._autocast():
                loss = self.loss(self.module, indices)
        part = loss if share == 1 else loss * share
        self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        value = loss.item()
        if not math.isfinite(value):
            raise Problem(
                "diverged",
                f"The loss is not a finite number at step {step}; "
                "a lower learning rate or a clip_norm may help.",
            )
        return value

    def step(self, step: int) -> None:
        """Move the weights by the gradients, as the step of that number."""
        config = self.config
        factor = rate_factor(config.schedule, config.warmup, step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        if config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            self.clip(self.module, config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def standing(self) -> dict[str, Any]:
        """What of a checkpoint is its own."""
        gradients = {
            name: p.grad
            for name, p in self.module.named_parameters()
            if p.grad is not None
        }
        return {
            "weights": self.module.state_dict(),
            "gradients": gradients,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, found: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.module.load_state_dict(found["weights"])
        for name, parameter in self.module.named_parameters():
            parameter.grad = found["gradients"].get(name)
        self.optimizer.load_state_dict(found["optimizer"])
        if found["scaler"]:  # empty where the loss was not scaled
            self.scaler.load_state_dict(found["scaler"])

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = torch.device(self.device).type
        return torch.autocast(kind, dtype=self.half)


def half_precision(device: str) -> torch.dtype | None:
    """The fast float type of a GPU: bfloat16 where it has it, else float16; None on a CPU."""
    if torch.device(device).type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
