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

from inference import forms
from inference.fallback import Reasons, listed
from inference.forms import FORMS
from inference.shards import Shards
from inference.signature import newest_that_fits
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

    `asked` has the fields of a SubmitRequest. Raises Problem with those that do not hold.
    """
    versions.hold(version)
    name = asked.get("name") or f"Prediction of {count} items by {version}"
    task = submission.accept(
        **{**submission.common(user, asked), "name": name[:200]},
        kind="predict",
        template=f"predict {version.model.name}"[:120],
        lane="inference",
        params={
            "model": str(version),
            "version_id": version.pk,
            "form": form,
            "count": count,
            **_addresses(asked.get("model")),
        },
    )
    Shards(task.pk, FORMS[form]).accept(items)
    return task


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
    """All results with their counts; None if the task has none."""
    try:
        with Shards(task.pk, FORMS[task.params["form"]]).results.open() as file:
            rows = [json.loads(line) for line in file]
    except FileNotFoundError:
        return None
    good = sum(row["success"] for row in rows)
    return {
        "results": rows,
        "total_count": len(rows),
        "success_count": good,
        "failed_count": len(rows) - good,
        "task_id": str(task.pk),
        **_answered_by(task),
    }


def _answered_by(task: Task) -> dict[str, Any]:
    """Which of several models answered."""
    result = task.result or {}
    names = ("model", "version", "fell_back")
    return {name: result[name] for name in names if "fell_back" in result}
