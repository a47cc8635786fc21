"""Which version answers a batch: settled when the task first starts, and kept from then on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inference.cache import ModelCache
from inference.fallback import CANNOT_BE_SERVED, Reasons
from registry import store
from registry.addresses import resolve
from registry.errors import Problem
from registry.models import Task


@dataclass(frozen=True)
class Choice:
    """`model` as name:3; `fell_back` says who was passed over, or is None where one was named."""

    model: str
    version_id: int
    fell_back: list[dict[str, str]] | None = None

    def result(self) -> dict[str, Any]:
        name, _, number = self.model.partition(":")
        found: dict[str, Any] = {"model": name, "version": int(number)}
        return (
            found if self.fell_back is None else found | {"fell_back": self.fell_back}
        )


def kept(task: Task) -> Choice:
    """What was settled; until then what the task itself names."""
    try:
        return Choice(**json.loads(_path(task).read_bytes()))
    except FileNotFoundError:
        return Choice(task.params["model"], task.params["version_id"])


def settle(
    task: Task,
    cache: ModelCache,
    *,
    say: Callable[[str], None],
    hold: Callable[[], object],
) -> Choice:
    """The first of the task's addresses that can be served; the last is taken as it is.

    `hold` raises once the task may be another's. Raises Problem if none can be found.
    """
    params = task.params
    addresses: list[str] = params.get("addresses") or []
    if not addresses:
        return Choice(params["model"], params["version_id"])
    path = _path(task)
    if task.resume_from == "start":
        path.unlink(missing_ok=True)
    if path.exists():
        return kept(task)
    found = _first(addresses, cache, say)
    hold()
    aside = store.aside()
    with aside.open("w") as file:
        json.dump(asdict(found), file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    return found


def _path(task: Task) -> Path:
    return store.task_path(task.pk) / "model.json"


def _first(
    addresses: list[str], cache: ModelCache, say: Callable[[str], None]
) -> Choice:
    reasons = Reasons()
    for number, address in enumerate(addresses, start=1):
        try:
            version = resolve(address)
            if number < len(addresses):
                with cache.use(version.pk):
                    pass
            return Choice(str(version), version.pk, reasons.shown())
        except Problem as problem:
            if problem.code not in CANNOT_BE_SERVED:
                raise
            say(f"{address} is passed over: {problem.detail}")
            reasons.add(address, problem)
    raise reasons.none_served()
