"""What a training sees of the world around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Stopped(Exception):
    """The training was asked to stop, and has left a checkpoint where it could."""


def _ignore(event: Mapping[str, Any]) -> None:
    return None


@dataclass
class Context:
    """Directories, device and reports of one training attempt.

    `checkpoints` is kept between attempts of a task; `output` is empty at the start and becomes the
    model when the training ends well; `scratch` goes away with the attempt. `should_save` is true
    once for each wish for a checkpoint; the training goes on after it.
    """

    checkpoints: Path
    output: Path
    scratch: Path
    device: str = "cpu"
    threads: int = 1
    resume: bool = True
    report: Callable[[Mapping[str, Any]], None] = _ignore
    should_stop: Callable[[], bool] = field(default=lambda: False)
    should_save: Callable[[], bool] = field(default=lambda: False)

    def progress(self, **values: Any) -> None:
        """Tell how far it is: fraction (0 to 1), stage, epoch, epochs, step, steps, eta (seconds)."""
        self.report({"event": "progress", **values})

    def metric(self, step: int, **values: float) -> None:
        """Add one point to the series of each named metric."""
        self.report({"event": "metric", "step": step, "values": values})

    def saved(self, step: int) -> None:
        """Tell that a checkpoint stands at `step`, further than where this attempt began."""
        self.report({"event": "checkpoint", "step": step})

    def note(self, text: str) -> None:
        """Add a sentence to the task's timeline, for example a warning about the data."""
        self.report({"event": "note", "text": text})

    def stop_if_asked(self) -> None:
        """Raise Stopped if the training was asked to stop; for long work without checkpoints."""
        if self.should_stop():
            raise Stopped
