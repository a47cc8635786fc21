"""Asking an inference worker and waiting for its answer: Django's lane, and the commands."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from inference import links
from inference.frames import Status
from inference.known import Known
from inference.links import Link, Place, Silent
from inference.routes import Found
from registry import clock
from registry.errors import Problem
from registry.models import Node

log = logging.getLogger(__name__)

LANE = "inference"
RETRY_AFTER = 2.0  # seconds, while a part is away
PAUSE = 0.1  # seconds between tries, while no line is there
PATIENCE = 3.0  # seconds for a sign of life, where another worker can be asked instead
SHUNNED = 10.0  # seconds that a worker without one is asked last

_local = threading.local()
_silent: dict[Place, float] = {}  # when they gave no sign of life
_known = Known()


def ask(
    found: Found,
    items: Sequence[Any],
    *,
    timeout: float,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> list[Any]:
    """The outputs of the items, in order, from a worker that holds the version if one does.

    `timeout` is in seconds. A prediction has no side effect, so it is asked again of whoever is
    there when its worker dies. Raises Problem `no_worker`, `timeout`, or what the worker says of
    the model.
    """
    try:
        content = json.dumps(list(items)).encode()
    except RecursionError:
        text = "An item is nested too deep."
        raise Problem("invalid", text, errors={"inputs": [text]}) from None
    end = monotonic() + timeout
    while (left := end - monotonic()) > 0:
        workers()
        if (link := _link(found.version)) is None:
            sleep(min(PAUSE, left))
            continue
        try:
            with _known.asking(link.place, found.version):
                status, answer = link.ask(found.version, content, left, found.watch)
        except OSError as error:
            _forget(link)
            if isinstance(error, Silent):
                _shun(link.place)
            elif not isinstance(error, TimeoutError):
                log.warning("%s broke off: %s", link.place.name, error)
                sleep(min(PAUSE, left))
            continue
        is_held = status == Status.OUTPUTS
        _known.answered(link.place, found.version, is_held=is_held)
        told: Any = json.loads(answer)
        if not is_held:
            raise Problem(**told)
        return list(told)
    text = f"No inference worker has answered within {round(timeout, 1):g} s."
    raise Problem("timeout", text, retry_after=RETRY_AFTER)


def ask_what_is_there(
    find: Callable[[], Found], items: Sequence[Any], *, timeout: float
) -> tuple[Found, list[Any]]:
    """The version that `find` gives, and its outputs; found again if it was deleted on the way.

    Raises Problem as both do.
    """
    end, left = time.monotonic() + timeout, timeout
    found = find()
    while True:
        try:
            return found, ask(found, items, timeout=left)
        except Problem as problem:
            if problem.code != "unknown_model":
                raise
            before, found = found, find()
            if found.version == before.version:
                raise
            left = end - time.monotonic()


def workers() -> list[str]:
    """The names of the inference nodes that are up. Raises Problem `no_worker`."""
    names = (
        Node.objects.up(clock.now()).filter(lane=LANE).values_list("name", flat=True)
    )
    if not names:
        raise Problem("no_worker", "No inference worker is up.", retry_after=5)
    return list(names)


def _link(version: int) -> Link | None:
    """This thread's connection to the worker to be asked for it; None if none can be had."""
    held: dict[Place, Link] = _local.__dict__.setdefault("links", {})
    there = links.places()
    for place in [place for place in held if place not in there]:
        held.pop(place).close()
    _known.look(there)
    for place in sorted(_known.in_order(there, version), key=_is_shunned):
        try:
            if place not in held:
                held[place] = Link(place)
                _known.greeted(place, held[place].told.get("versions", ()))
            held[place].patience = PATIENCE if len(there) > 1 else None
            return held[place]
        except TimeoutError:
            _shun(place)
        except OSError as error:
            log.info("%s cannot be reached: %s", place.name, error)
    return None


def _shun(place: Place) -> None:
    log.warning("%s gives no sign of life", place.name)
    _silent[place] = time.monotonic()


def _is_shunned(place: Place) -> bool:
    return time.monotonic() - _silent.get(place, -SHUNNED) < SHUNNED


def _forget(link: Link) -> None:
    _local.links.pop(link.place, None)
    link.close()
