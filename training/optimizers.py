"""Optimizers, and the learning rate that belongs to each step."""

from __future__ import annotations

import math

import torch
from torch import nn


def make_optimizer(
    module: nn.Module, name: str, rate: float, decay: float
) -> torch.optim.Optimizer:
    """The optimizer of that name over all parameters of `module`."""
    parameters = module.parameters()
    match name:
        case "adamw":
            return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(parameters, rate, weight_decay=decay, fused=True)
        case "sgd":
            return torch.optim.SGD(
                parameters, rate, momentum=0.9, weight_decay=decay, nesterov=True
            )
        case "rmsprop":
            return torch.optim.RMSprop(parameters, rate, weight_decay=decay)
    raise ValueError(f"no optimizer {name!r}")


def rate_factor(schedule: str, warmup: float, step: int, steps: int) -> float:
    """What the learning rate is multiplied with at `step` (0 to `steps` - 1), 0 to 1.

    Linear warm-up, then constant or half a cosine; `one_cycle` is Smith and Topin's super
    convergence (arXiv 1708.07120): half a cosine from 1/25 up and half a cosine down to 4e-6.
    """
    rising = warmup * steps
    falling = (step - rising) / max(steps - rising, 1.0)
    cosine = (1 + math.cos(math.pi * falling)) / 2
    if schedule == "one_cycle":
        if step < rising:
            return 1 / 25 + (24 / 25) * (1 - math.cos(math.pi * step / rising)) / 2
        return max(cosine, 4e-6)
    if step < rising:
        return (step + 1) / (rising + 1)
    return cosine if schedule == "cosine" else 1.0


def clip_gradients(module: nn.Module, norm: float) -> None:
    """Scale all gradients down so that their common norm is at most `norm`."""
    nn.utils.clip_grad_norm_(module.parameters(), norm)
