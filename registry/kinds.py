"""The kinds of task: what runs them and where, by name only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """`celery_task` is the name of the Celery task that runs it; `max_retries` the default."""

    label: str
    celery_task: str
    lanes: tuple[str, ...]
    max_retries: int


KINDS = {
    "train": Kind("Training", "training.run", ("cpu", "gpu"), 3),
    "predict": Kind("Prediction", "inference.run", ("inference",), 3),
}
LANES = ("cpu", "gpu", "inference", "control")
