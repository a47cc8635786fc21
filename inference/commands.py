"""Commands to every inference worker, over its line: preload, evict, status, forget."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import DatabaseError

from inference import gateway, links
from inference.links import CONNECT, Link, Place
from registry.errors import Problem

log = logging.getLogger(__name__)

GRACE = 2.0  # seconds beyond those that the worker itself waits
STATUS_WITHIN = 1.0  # seconds
FORGET_WITHIN = 0.5  # seconds that a deletion waits for the workers
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


def forget(version: int) -> None:
    """Have all workers free the memory of a version that was deleted.

    Who does not answer soon finds it out by itself, at the next request or beat.
    """
    try:
        there = links.places()
    except DatabaseError as error:
        log.warning("No worker is told that %s was deleted: %s", version, error)
        return
    command = {"name": "forget", "version": version}
    # Not a pool: Python would wait for its threads at the end of a command.
    threads = [
        threading.Thread(
            target=_tell, args=(place, command, FORGET_WITHIN), daemon=True
        )
        for place in there
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + FORGET_WITHIN
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


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

    with ThreadPoolExecutor(min(32, len(newest))) as pool:
        told = pool.map(lambda place: _tell(place, command, seconds), newest.values())
        return dict(zip(newest, told, strict=True))


def _tell(place: Place, command: dict[str, Any], seconds: float) -> dict[str, Any]:
    try:
        link = Link(place, connect=min(CONNECT, seconds))
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
