"""The web side of a batch: accept it as a task, wait for it a while, show its results."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from django.conf import settings

from inference import forms, shards
from inference.fallback import Reasons, listed
from inference.forms import FORMS
from inference.given import Given
from inference.shards import Files
from inference.signature import newest_that_fits
from inference.texts import NUMBERS, single, types_of
from registry import submission, versions
from registry.addresses import resolve
from registry.errors import Problem
from registry.models import ModelVersion, Task
from registry.states import FINAL

LONGEST_WAIT = 60.0  # seconds
DEFAULT_WAIT = 30.0
FIRST_LOOK, LAST_LOOK = 0.02, 0.25  # seconds between two looks at the row
WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})")

# A waiting request holds a web thread; half of them stay free for everything else.
_waiting = threading.BoundedSemaphore(max(1, settings.ENVIRONMENT.web_threads // 2))


def version_for(
    model: str | list[str] | None, form: str, inputs: Callable[[], Iterable[Any]]
) -> ModelVersion:
    """The version of that address, or without one the newest that fits; of a list, the first.

    Raises Problem `unknown_model`, `no_model_fits`, or `invalid` for pairs to no affinity model.
    """
    takes_it = takes_pairs if form == "pairs" else takes_all
    if isinstance(model, list):
        return _first_of(model, form, inputs)
    if model is None:
        one = FORMS[form]
        return newest_that_fits([one.as_input(item) for item in inputs()], takes_it)
    version = resolve(model)
    if not takes_it(version):
        text = f"{version} does not predict the affinity of protein-ligand pairs"
        raise Problem("invalid", f"model: {text}.", errors={"model": [text]})
    return version


def _first_of(
    models: list[str], form: str, inputs: Callable[[], Iterable[Any]]
) -> ModelVersion:
    """The first that there is; all that there are must take the form."""
    found, reasons = [], Reasons()
    for model in listed(models):
        try:
            found.append(version_for(model, form, inputs))
        except Problem as problem:
            if problem.code != "unknown_model":
                raise
            reasons.add(model, problem)
    if not found:
        raise reasons.none_served()
    return found[0]


def takes_pairs(version: ModelVersion) -> bool:
    """Whether it takes protein and ligand and gives an affinity."""
    inputs, outputs = (
        (version.signature.get(side) or {}).get("properties", {})
        for side in ("inputs", "outputs")
    )
    return set(forms.PAIR.values()) <= set(inputs) and forms.AFFINITY in outputs


def takes_all(version: ModelVersion) -> bool:
    return True


def accept(
    version: ModelVersion,
    form: str,
    items: Path,
    count: int,
    *,
    user: Any,
    asked: Mapping[str, Any] = MappingProxyType({}),
) -> Task:
    """Make the task and give it its file of items; call it in a transaction.

    `asked` has the fields of a BatchRequest. Raises Problem with those that do not hold.
    """
    versions.hold(version)
    source = {"layout": "inline"}
    params = _params(version, form, count, asked, source, "jsonl")
    task = _submit(version, count, params, user=user, asked=asked)
    shards.accept(task.pk, items)
    return task


def accept_given(
    version: ModelVersion,
    given: Given,
    count: int,
    *,
    user: Any,
    asked: Mapping[str, Any],
) -> Task:
    """Make the task of a batch from uploads, as `accept`."""
    versions.hold(version)
    source = given.source(version.signature.get("inputs") or {})
    params = _params(version, "inputs", count, asked, source, given.format)
    params |= {"dataset": str(given.dataset.pk), "uploads": given.uploads}
    return _submit(version, count, params, user=user, asked=asked)


def _params(
    version: ModelVersion,
    form: str,
    count: int,
    asked: Mapping[str, Any],
    source: Mapping[str, Any],
    usual: str,
) -> dict[str, Any]:
    params = {
        "model": str(version),
        "version_id": version.pk,
        "form": form,
        "count": count,
        "shard": shards.size_for(count),
        "source": source,
        "format": asked.get("format") or usual,
        **_addresses(asked.get("model")),
    }
    if "top_k" in asked:
        lowest = asked.get("rank_order") == "lowest"
        by = ranked_by(version, form, asked.get("rank_by"))
        params["top"] = {"count": asked["top_k"], "by": by, "lowest": lowest}
    return params


def _submit(
    version: ModelVersion,
    count: int,
    params: Mapping[str, Any],
    *,
    user: Any,
    asked: Mapping[str, Any],
) -> Task:
    name = asked.get("name") or f"Prediction of {count} items by {version}"
    return submission.accept(
        **{**submission.common(user, asked), "name": name[:200]},
        kind="predict",
        template=f"predict {version.model.name}"[:120],
        lane="inference",
        params=params,
    )


def ranked_by(version: ModelVersion, form: str, wanted: str | None) -> str:
    """The output that ranks the items: the affinity or the first number unless one is named.

    Raises Problem `invalid` if there is none, or none of that name.
    """
    outputs = (version.signature.get("outputs") or {}).get("properties") or {}
    if form == "pairs" and wanted in (None, "binding_affinity"):
        return forms.AFFINITY
    if wanted is not None:
        types = types_of(single(outputs.get(wanted)))
        if not outputs or (wanted in outputs and (not types or types & NUMBERS)):
            return wanted
        if wanted in outputs:
            text = f"the output {wanted[:60]!r} of {version} is no number"
            raise Problem("invalid", f"rank_by: {text}.", errors={"rank_by": [text]})
        text = f"{version} has no output {wanted[:60]!r}; it has {', '.join(outputs)}"
    else:
        if forms.AFFINITY in outputs:
            return forms.AFFINITY
        for name, schema in outputs.items():
            if types_of(single(schema)) & NUMBERS:
                return str(name)
        text = f"name the output of {version} that ranks the items"
    raise Problem("invalid", f"rank_by: {text}.", errors={"rank_by": [text]})


def _addresses(model: Any) -> dict[str, list[str]]:
    return {"addresses": listed(model)} if isinstance(model, list) else {}


def wished_wait(prefer: str) -> float:
    """The seconds that a Prefer header asks to wait, bounded; RFC 7240."""
    if found := WAIT.search(prefer):
        return min(float(found[1]), LONGEST_WAIT)
    return 0.0 if "respond-async" in prefer else DEFAULT_WAIT


def wait_until_over(
    task: int,
    seconds: float,
    *,
    sleep: Callable[[float], object] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> bool:
    """Whether the task is over, after looking at its row for that long at most.

    Does not wait if too many requests wait already.
    """
    has_place = seconds > 0 and _waiting.acquire(blocking=False)
    try:
        end = monotonic() + (seconds if has_place else 0.0)
        pause = FIRST_LOOK
        while not Task.objects.filter(pk=task, state__in=FINAL).exists():
            left = end - monotonic()
            if left <= 0:
                return False
            sleep(min(pause, left))
            pause = min(pause * 1.3, LAST_LOOK)
        return True
    finally:
        if has_place:
            _waiting.release()


def results(task: Task) -> dict[str, Any] | None:
    """All results with their counts; None if the task has none in JSON lines."""
    try:
        with Files(task.pk, ".jsonl").results.open() as file:
            rows = [json.loads(line) for line in file]
    except FileNotFoundError:
        return None
    good = sum(row["success"] for row in rows)
    counts = {
        "total_count": len(rows),
        "success_count": good,
        "failed_count": len(rows) - good,
    }
    counts |= {name: task.result[name] for name in counts if name in task.result}
    told = {"task_id": str(task.pk), **_answered_by(task)}
    return {"results": rows, **counts, **told}


def _answered_by(task: Task) -> dict[str, Any]:
    """Which of several models answered."""
    result = task.result or {}
    names = ("model", "version", "fell_back")
    return {name: result[name] for name in names if "fell_back" in result}
