"""Metric series as curves need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.errors import Problem
from registry.models import Task
from training.models import Metric

DEFAULT, MOST = 500, 10_000  # points of one series


def read(task: Task, query: Mapping[str, str]) -> dict[str, Any]:
    """Each series by name, thinned evenly to at most `points`, its ends kept."""
    text = query.get("points", str(DEFAULT))
    if not (text.isascii() and text.isdigit()) or not 2 <= int(text[:9]) <= MOST:
        sentence = f"must be a whole number from 2 to {MOST}"
        raise Problem("invalid", f"points {sentence}.", errors={"points": [sentence]})
    rows = Metric.objects.filter(task=task)
    if name := query.get("name", ""):
        rows = rows.filter(name=name.replace("\x00", ""))
    found: dict[str, list[dict[str, float]]] = {}
    for name, step, value in rows.values_list("name", "step", "value"):
        found.setdefault(name, []).append({"step": step, "value": value})
    return {
        "series": [
            {"name": name, "count": len(all_), "points": thin(all_, int(text))}
            for name, all_ in found.items()
        ]
    }


def thin(points: list[Any], most: int) -> list[Any]:
    """At most so many of them, evenly, with the first and the last."""
    if len(points) <= most:
        return points
    last = len(points) - 1
    return [points[index * last // (most - 1)] for index in range(most)]
