"""Commands to every inference worker, over its line: preload, evict, status."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from inference import gateway, links
from inference.links import Link, Place
from registry.errors import Problem

log = logging.getLogger(__name__)

GRACE = 2.0  # seconds beyond those that the worker itself waits
STATUS_WITHIN = 1.0  # seconds
SERVED = ("loaded", "was loaded", "evicted", "not loaded")  # as it was asked for


def tell_all(
    name: str, version: int, *, seconds: float, pin: bool = False
) -> list[dict[str, Any]]:
    """How it went on each worker: `{worker, outcome, seconds}`, and why if it failed.

    `seconds` is how long to wait for a load. Raises Problem `no_worker`.
    """
    names = gateway.workers()
    command = {"name": name, "version": version, "seconds": seconds, "pin": pin}
    told = _ask(links.places(), command, seconds + GRACE)
    return [
        {"worker": one, **(told.get(one) or failed("It has no line yet."))}
        for one in sorted({*names, *told})
    ]


def statuses() -> dict[str, dict[str, Any]]:
    """What each worker that answers says of its cache, by its name."""
    told = _ask(links.places(), {"name": "status"}, STATUS_WITHIN)
    return {name: one for name, one in told.items() if "models" in one}


def failed(detail: str, code: str = "no_worker") -> dict[str, Any]:
    return {"outcome": "failed", "seconds": 0.0, "code": code, "detail": detail}


def problem_of(problem: Problem) -> dict[str, Any]:
    return failed(problem.detail, problem.code)


def _ask(
    places: Sequence[Place], command: dict[str, Any], seconds: float
) -> dict[str, dict[str, Any]]:
    newest = {place.name: place for place in places}
    if not newest:
        return {}

    def ask(place: Place) -> dict[str, Any]:
        try:
            link = Link(place)
            try:
                return dict(link.tell(command, seconds))
            finally:
                link.close()
        except TimeoutError:
            text = f"It has not answered within {seconds:g} s."
            return failed(text, "timeout")
        except (OSError, ValueError) as error:
            log.warning("%s does not take a command: %s", place.name, error)
            return failed("It cannot be reached.")

    with ThreadPoolExecutor(min(32, len(newest))) as pool:
        return dict(zip(newest, pool.map(ask, newest.values()), strict=True))
