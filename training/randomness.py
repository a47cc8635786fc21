"""Every random generator that a training draws from: seeding, and going on where it was."""

from __future__ import annotations

import os
import random
from importlib import import_module
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, and use deterministic kernels wherever there are some."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic: Any = import_module("torch.utils.deterministic")
    deterministic.fill_uninitialized_memory = False  # it would only cost time
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every random generator that a training draws from, fit for a checkpoint."""
    legacy: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, gauss = legacy
    has_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position),
        "numpy_gauss": (has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if has_cuda else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go back to a state that `random_state` gave."""
    random.setstate(state["python"])
    name, keys, position = state["numpy"]
    array = keys.cpu().numpy().astype(np.uint32)
    np.random.set_state((name, array, position, *state["numpy_gauss"]))
    torch.set_rng_state(state["torch"].cpu())
    for device, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(one.cpu(), device)
