"""The kinds of task: what runs them and where, by name only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """`celery_task` is the name of the Celery task that runs it; `max_retries` the default.

    What is not `is_repeatable` may have side effects: once it has started it is not run
    again by itself, unless its submitter asked for retries. What `is_light` ends at once,
    so one message carries many of a node.
    """

    label: str
    celery_task: str
    lanes: tuple[str, ...]
    max_retries: int
    is_repeatable: bool = True
    is_light: bool = False


KINDS = {
    "train": Kind("Training", "training.run", ("cpu", "gpu"), 3),
    "script": Kind("Script", "training.run", ("cpu", "gpu"), 0, is_repeatable=False),
    "predict": Kind("Prediction", "inference.run", ("inference",), 3),
    "probe": Kind(
        "Probe", "registry.probe", ("cpu", "gpu", "inference"), 3, is_light=True
    ),
}
LANES = ("cpu", "gpu", "inference", "control")
