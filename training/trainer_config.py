"""How a training is done, whatever is learned."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal


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

    def chosen(self) -> dict[str, Any]:
        """Without the defaults: a field that a later version adds leaves all checkpoints good."""
        return {
            one.name: value
            for one in fields(self)
            if (value := getattr(self, one.name)) != one.default
            or one.default is MISSING
        }
