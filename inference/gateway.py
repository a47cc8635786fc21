"""The web side of an online prediction: ask an inference worker and wait for its answer."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery import current_app
from celery.exceptions import TimeoutError as TookTooLong

from inference.question import Question
from inference.tasks import predict
from registry import clock
from registry.errors import Problem
from registry.models import ModelVersion, Node

log = logging.getLogger(__name__)

LANE = "inference"
RETRY_AFTER = 2.0  # seconds, while a part is away


def ask(
    version: ModelVersion,
    items: Sequence[Any],
    *,
    timeout: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> list[Any]:
    """The outputs of the items, in order, from whichever worker is free first.

    `timeout` is in seconds. A request whose worker died is asked again meanwhile. Raises Problem
    `no_worker`, `broker_unavailable`, `timeout`, or what the worker says of the model.
    """
    workers()
    deadline = clock.now() + datetime.timedelta(seconds=timeout)
    arguments = (version.pk, list(items), deadline.isoformat())
    label = f"({version}, {len(items)} items)"
    try:
        reply = Question(arguments, label, monotonic).answer(timeout)
    except TookTooLong:
        text = f"No inference worker has answered within {timeout:g} s."
        raise Problem("timeout", text, retry_after=RETRY_AFTER) from None
    except RecursionError:
        text = "An item is nested too deep."
        raise Problem("invalid", text, errors={"inputs": [text]}) from None
    except Exception as error:
        log.warning("A prediction did not get through the broker: %s", error)
        predict.forget_connection()
        raise away() from None
    if "problem" in reply:
        raise _problem(**reply["problem"])
    outputs: list[Any] = reply["outputs"]
    return outputs


def workers() -> list[str]:
    """The names of the inference nodes that are up. Raises Problem `no_worker`."""
    names = (
        Node.objects.up(clock.now()).filter(lane=LANE).values_list("name", flat=True)
    )
    if not names:
        raise Problem("no_worker", "No inference worker is up.", retry_after=5)
    return list(names)


def tell_all(command: str, version: int) -> list[str]:
    """Send a control command to every inference worker; best effort, without an answer."""
    names = workers()

    def send() -> None:
        current_app.control.broadcast(
            command, destination=names, arguments={"version": version}
        )

    try:
        _twice(send)
    except Exception as error:
        log.warning("A command did not get through the broker: %s", error)
        raise away() from None
    return names


def away() -> Problem:
    text = "The message broker does not answer."
    return Problem("broker_unavailable", text, retry_after=RETRY_AFTER)


def _twice(function: Callable[[], None]) -> None:
    # The first control call after a restart of the broker raises once.
    try:
        function()
    except Exception:
        function()


def _problem(code: str, detail: str, retry_after: float | None = None) -> Problem:
    return Problem(code, detail, retry_after=retry_after)
