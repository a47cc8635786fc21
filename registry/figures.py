"""The figures among a version's metrics, by name, and what differs between two versions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.models import ModelVersion

DEEPEST = 8  # levels of metrics


def figures(metrics: Any, at: str = "", depth: int = 0) -> dict[str, float]:
    """Every finite number by its name; inner ones as `test.rmse`."""
    found: dict[str, float] = {}
    if not isinstance(metrics, Mapping) or depth > DEEPEST:
        return found
    for key, value in metrics.items():
        name = f"{at}.{key}" if at else str(key)
        if isinstance(value, Mapping):
            found |= figures(value, name, depth + 1)
        elif (number := _finite(value)) is not None:
            found[name] = number
    return found


def compare(version: ModelVersion, other: ModelVersion) -> dict[str, Any]:
    """What the metrics, parameters and data sets of two versions say of each other.

    `difference` is of the first from the second; null where one of them has no such figure.
    """
    ours, theirs = figures(version.metrics), figures(other.metrics)
    metrics = {
        name: {
            "version": ours.get(name),
            "other": theirs.get(name),
            "difference": _difference(ours.get(name), theirs.get(name)),
        }
        for name in [*ours, *(name for name in theirs if name not in ours)]
    }
    names = sorted(set(version.params) | set(other.params))
    params = {
        name: {"version": version.params.get(name), "other": other.params.get(name)}
        for name in names
        if version.params.get(name) != other.params.get(name)
    }
    data = [_data(one) for one in (version, other)]
    return {
        "version": _told(version),
        "other": _told(other),
        "metrics": metrics,
        "params": params,
        "same_recipe": version.recipe == other.recipe,
        "same_dataset": data[0] == data[1] if all(data) else None,
        "same_files": version.digest == other.digest,
    }


def _told(version: ModelVersion) -> dict[str, Any]:
    return {
        "model": version.model.name,
        "version": version.number,
        "address": str(version),
        "digest": version.digest,
        "recipe": version.recipe,
        "dataset": version.lineage.get("dataset"),
        "created_at": version.created_at,
    }


def _data(version: ModelVersion) -> str:
    dataset = version.lineage.get("dataset")
    return str(dataset.get("sha256", "")) if isinstance(dataset, dict) else ""


def _difference(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    return _finite(one - other)


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
