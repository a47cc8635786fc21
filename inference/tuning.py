"""Which engine serves a version best: each is compared to eager torch, then timed."""

from __future__ import annotations

import datetime
import logging
import math
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q

from inference import engines, export, loading
from inference.cache import Facts, Loaded
from inference.engines import EAGER, Run, Tensors, Tunable
from registry import clock, store
from registry.models import ModelVersion

log = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32, 64)  # rows of one pass
TOLERANCE = 1e-5  # of an output, relative where it is larger than one
ROUNDS = 3
MOMENT = 0.02  # seconds that one size is timed in one round
LONGEST = 2.0  # seconds of one pass; larger sizes are not tried
NEARLY = 1.1  # a smaller batch is taken if it costs at most so much more a row
CLAIM = datetime.timedelta(minutes=15)  # then another worker may try
EXAMPLES = 16


def next_untuned() -> ModelVersion | None:
    """Claim the oldest version that nobody has measured; None if there is none."""
    moment = clock.now()
    stale = Q(tuning_at=None) | Q(tuning_at__lte=moment - CLAIM)
    rows = ModelVersion.objects.filter(stale, engine__isnull=True)
    for row in rows.select_related("model").order_by("pk")[:1]:
        if rows.filter(pk=row.pk).update(tuning_at=moment):
            return row
    return None


def tune(version: ModelVersion) -> dict[str, Any]:
    """Measure the version here and store the verdict with it; the verdict.

    Raises Problem `model_unavailable` if it cannot be loaded; an earlier verdict then stands.
    """
    verdict = _measure(version)
    rows = ModelVersion.objects.filter(pk=version.pk)
    rows.update(engine=verdict, tuning_at=None)
    return verdict


def _measure(version: ModelVersion) -> dict[str, Any]:
    verdict: dict[str, Any] = {
        "name": EAGER, "batch": None, "sha256": "",
        "measured_at": clock.now().isoformat(), "node": settings.ENVIRONMENT.node_name,
        "machine": platform.machine(),
        "versions": {name: installed(name) for name in ("torch", "onnxruntime")},
        "candidates": [], "note": "",
    }  # fmt: skip
    inputs = version.signature.get("inputs") or {}
    facts = Facts(
        version.pk, str(version), version.recipe, version.digest, version.size, inputs
    )
    model = loading.load(facts)
    has_own = engines.own(model) != EAGER
    if not has_own and not isinstance(model, Tunable):
        return {**verdict, "note": "The recipe's predictor runs in one way only."}
    verdict["name"] = engines.own(model)
    encoded = _encoded(model, version.signature.get("examples") or [])
    if not encoded:
        return {**verdict, "note": "The version has no example that it can read."}
    if has_own:
        return verdict | time_own(model, encoded)
    assert isinstance(model, Tunable)
    names = engines.NAMES if loading.device() == "cpu" else (EAGER,)
    return verdict | choose(model, encoded, version.digest, names)


def choose(
    model: Tunable, encoded: Sequence[Any], digest: str, names: Sequence[str]
) -> dict[str, Any]:
    """The fastest engine whose outputs are those of eager torch, its batch, and all figures."""
    import torch

    loading.use_one_thread()
    with torch.inference_mode():
        batches = {size: model.tensors(_rows(encoded, size)) for size in SIZES}
        wanted: dict[int, Tensors] = {}
        for size, tensors in batches.items():
            began = time.perf_counter()
            wanted[size] = engines.as_tuple(model.network(*tensors))
            if time.perf_counter() - began > LONGEST:
                break
        candidates, runs = [], {}
        for name in names:
            found, run = _candidate(name, model, batches, wanted, digest)
            candidates.append(found)
            if run is not None:
                runs[name] = run
        seconds = _timed(runs, {size: batches[size] for size in wanted})
    for one in candidates:
        if times := seconds.get(one["name"]):
            one["seconds_a_row"] = {str(k): round(v, 9) for k, v in times.items()}
    name, batch = best(seconds)
    sha256 = next(one["sha256"] for one in candidates if one["name"] == name)
    return {"name": name, "batch": batch, "sha256": sha256, "candidates": candidates}


def time_own(model: Loaded, encoded: Sequence[Any]) -> dict[str, Any]:
    """The best batch of a predictor that has an engine of its own; one by one if rows touch each other."""
    name, seconds, errors = engines.own(model), dict[str, dict[int, float]](), [0.0]
    alone = [model.predict([one])[0] for one in encoded]
    batches: dict[int, Any] = {1: _rows(encoded, 1)}
    for size in SIZES[1:]:
        rows = _rows(encoded, size)
        began = time.perf_counter()
        found = model.predict(rows)
        if time.perf_counter() - began > LONGEST:
            break
        wanted = [alone[n % len(alone)] for n in range(size)]
        errors.append(max(map(_apart, found, wanted)))
        if errors[-1] > TOLERANCE:
            break
        batches[size] = rows
    seconds = _timed({name: model.predict}, batches)
    figures = {str(k): round(v, 9) for k, v in seconds[name].items()}
    candidate = {
        "name": name, "is_correct": max(errors) <= TOLERANCE, "sha256": "",
        "largest_error": _kept(max(errors)), "seconds_a_row": figures,
    }  # fmt: skip
    batch = best(seconds)[1] if candidate["is_correct"] else 1
    return {"name": name, "batch": batch, "candidates": [candidate]}


def _apart(one: Any, other: Any) -> float:
    """The largest difference of two answers, relative where a value is larger than one."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((_apart(one[name], other[name]) for name in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(_apart, one, other), default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        if one == other or both_nan:
            return 0.0
        difference = abs(one - other) / max(1.0, abs(other))
        return float("inf") if math.isnan(difference) else difference
    return 0.0 if one == other else float("inf")


def _kept(error: float) -> float | None:
    """JSON holds no infinity."""
    return error if math.isfinite(error) else None


def best(seconds: dict[str, dict[int, float]]) -> tuple[str, int]:
    """The engine that is fastest at its best size, and the smallest size nearly as good."""
    name = min(seconds, key=lambda one: min(seconds[one].values()))
    least = min(seconds[name].values())
    return name, min(n for n, s in seconds[name].items() if s <= NEARLY * least)


def _candidate(
    name: str,
    model: Tunable,
    batches: dict[int, Tensors],
    wanted: dict[int, Tensors],
    digest: str,
) -> tuple[dict[str, Any], Run | None]:
    found: dict[str, Any] = {
        "name": name, "is_correct": False, "largest_error": None, "sha256": "",
    }  # fmt: skip
    try:
        if name == EAGER:
            run = engines.eager(model)
        else:
            file = _made(name, model, batches[2], digest)
            found["sha256"] = store.file_sha256(file)
            run = engines.OPEN[name](file)
        errors = [_error(run(batches[size]), wanted[size]) for size in wanted]
    except Exception as error:
        log.info("No engine %s for %s: %r", name, digest, error)
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return {**found, "note": text[:300]}, None
    found["largest_error"] = _kept(max(errors))
    found["is_correct"] = max(errors) <= TOLERANCE
    return found, run if found["is_correct"] else None


def _made(name: str, model: Tunable, tensors: Tensors, digest: str) -> Path:
    """Write the engine's file aside, then put it in its place."""
    target = engines.path(digest, name)
    aside = store.aside(target.suffix)
    try:
        export.MAKE[name](model, tensors, aside)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def _error(found: Tensors, wanted: Tensors) -> float:
    """The largest difference, relative where the value is larger than one."""
    import torch

    if len(found) != len(wanted):
        return float("inf")
    largest = 0.0
    for one, other in zip(found, wanted, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return float("inf")
        if not other.is_floating_point():
            largest = max(largest, 0.0 if torch.equal(one, other) else float("inf"))
        elif other.numel():
            difference = (one - other).abs() / other.abs().clamp(min=1)
            largest = max(largest, float(difference.nan_to_num(float("inf")).max()))
    return largest


def _timed(
    runs: dict[str, Any], batches: dict[int, Any]
) -> dict[str, dict[int, float]]:
    """The least seconds a row, by engine and size; in rounds, so that all meet the same machine."""
    seconds: dict[str, dict[int, float]] = {name: {} for name in runs}
    # One thread computes. By the clock on the wall a long pass on a busy host would seem worse
    # than a short one, which fits between the turns of others.
    clock = time.process_time if loading.device() == "cpu" else time.perf_counter
    for _ in range(ROUNDS):
        for size, tensors in batches.items():
            for name, run in runs.items():
                spent = _once(run, tensors, clock) / size
                seconds[name][size] = min(spent, seconds[name].get(size, spent))
    return seconds


def _once(
    run: Callable[[Any], Any],
    tensors: Any,
    clock: Callable[[], float],
    monotonic: Callable[[], float] = time.perf_counter,
) -> float:
    """The least seconds of one pass by that clock, within a moment."""
    end, least = monotonic() + MOMENT, float("inf")
    while True:
        began = clock()
        run(tensors)
        least = min(least, clock() - began)
        if monotonic() >= end:
            return least


def _encoded(model: Loaded, examples: Sequence[Any]) -> list[Any]:
    encoded = []
    for item in examples[:EXAMPLES]:
        try:
            encoded.append(model.encode(item))
        except Exception as error:
            log.info("An example cannot be read: %r", error)
    return encoded


def _rows(encoded: Sequence[Any], size: int) -> list[Any]:
    return [encoded[n % len(encoded)] for n in range(size)]
