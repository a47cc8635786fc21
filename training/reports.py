"""What a job said, gathered until the supervisor writes it in one batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from registry import clock, plain
from registry.models import Task
from training.models import Metric

ENDS = frozenset({"completed", "stopped", "failed", "exited"})
LONGEST_NOTE = 2000  # characters


class Reports:
    """Keeps progress from going back, and a step's metric from standing twice."""

    def __init__(self, task: Task) -> None:
        self._progress: dict[str, Any] = dict(task.progress)
        self._latest: dict[str, float | None] = dict(task.metrics)
        self._points: dict[tuple[str, int], float] = {}
        self._notes: list[str] = []
        self._is_further = False
        self.end: dict[str, Any] | None = None
        self.is_new = False

    def take(self, frame: Mapping[str, Any]) -> None:
        """Keep one report; what is malformed is dropped, for a recipe may be anybody's."""
        kind = frame.get("event")
        if kind == "progress":
            self._take_progress({k: v for k, v in frame.items() if k != "event"})
        elif kind == "metric":
            self._take_metric(frame)
        elif kind == "note":
            self._notes.append(_text(frame.get("text", ""), LONGEST_NOTE))
            self.is_new = True
        elif kind == "checkpoint":
            self._is_further = self.is_new = True
        elif kind in ENDS:
            self.end = {
                name: value if value is None or isinstance(value, int) else _text(value)
                for name, value in frame.items()
            }

    def write(self, task: Task) -> None:
        """Beat with all that is new, in one transaction behind the attempt's fence.

        An attempt that left a checkpoint was not in vain: the counts of retries and releases
        begin again, so that a training ends however often it is killed.
        """
        again = {"retries": 0, "releases": 0} if self._is_further else {}
        with transaction.atomic():
            task.beat(progress=self._progress, metrics=self._latest, **again)
            self._write_points(task)
            for text in self._notes:
                task.note("note", text)
        self._points.clear()
        self._notes.clear()
        self.is_new = self._is_further = False

    def _write_points(self, task: Task) -> None:
        if not self._points:
            return
        moment = clock.now()
        Metric.objects.bulk_create(
            [
                Metric(
                    task=task,
                    name=name,
                    step=step,
                    value=value,
                    attempt=task.attempt,
                    at=moment,
                )
                for (name, step), value in self._points.items()
            ],
            update_conflicts=True,
            unique_fields=["task", "name", "step"],
            update_fields=["value", "attempt", "at"],
            batch_size=500,
        )

    def _take_progress(self, values: dict[str, Any]) -> None:
        if "fraction" in values:
            before = _number(self._progress.get("fraction")) or 0.0
            now = values["fraction"] = _number(values["fraction"])
            if now is not None and now < before:
                return  # a resumed attempt has not yet caught up with what was shown
        self._progress |= {
            _text(name, 60): _finite(value)
            for name, value in values.items()
            if value is None or isinstance(value, str | int | float)
        }
        self.is_new = True

    def _take_metric(self, frame: Mapping[str, Any]) -> None:
        values, step = frame.get("values"), frame.get("step")
        if (
            not isinstance(values, dict)
            or type(step) is not int
            or not 0 <= step < 2**62
        ):
            return
        for name, value in values.items():
            if not isinstance(value, int | float):
                continue
            short, number = _text(name, 60), _number(value)
            self._latest[short] = number
            if number is not None:
                self._points[short, step] = number
        self.is_new = True


def _finite(value: str | float | None) -> str | float | None:
    """The value as JSON in a database can hold it."""
    if isinstance(value, str):
        return _text(value, 200)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _number(value: object) -> float | None:
    """As a finite float; None for what is none, such as a whole number beyond all floats."""
    if not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _text(value: object, longest: int = 10_000) -> str:
    return plain.text(value)[:longest]
