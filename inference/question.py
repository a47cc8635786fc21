"""One online request on its way: sent, and sent again if no worker gives a sign of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.exceptions import TimeoutError as TookTooLong

from inference.tasks import predict

log = logging.getLogger(__name__)

QUEUE = "inference.cpu"  # that every inference worker takes from
SENDS = 3  # at most; a message dies with the worker that took it
PATIENCE = (
    2.0  # seconds without a sign before the second sending; doubled for the third
)
LOOK = 0.9  # seconds; Celery itself looks once a second whether a wait is over


class Question:
    """A request under one id, so that the first answer is the answer to all its messages.

    `arguments` are those of `inference.predict`, `label` stands for them in logs.
    """

    def __init__(
        self, arguments: tuple[Any, ...], label: str, monotonic: Callable[[], float]
    ) -> None:
        self._arguments, self._label = arguments, label
        self._monotonic = monotonic
        self._asked: Any = self._send()
        self._sends = 1
        self._sign: Any = None
        self._heard_at = monotonic()

    def answer(self, timeout: float) -> dict[str, Any]:
        """Wait for the answer. Raises Celery's TimeoutError after `timeout` seconds."""
        end = self._monotonic() + timeout
        while True:
            left = end - self._monotonic()
            try:
                reply: dict[str, Any] = self._asked.get(
                    timeout=max(0.0, min(LOOK, left)), disable_sync_subtasks=False
                )
            except TookTooLong:
                if self._monotonic() >= end:
                    self._asked.backend.remove_pending_result(self._asked)
                    raise
            else:
                return reply
            if self._sends < SENDS and self._is_silent():
                self._send_again()

    def _is_silent(self) -> bool:
        moment = self._monotonic()
        sign = predict.sign_of(self._asked.id)
        if sign != self._sign:
            self._sign, self._heard_at = sign, moment
        patience = PATIENCE if self._sends == 1 else 2 * PATIENCE
        return moment - self._heard_at >= patience

    def _send_again(self) -> None:
        log.warning("Asking again for %s: no worker gives a sign of it", self._label)
        try:
            self._send(task_id=self._asked.id, again=True)
        except Exception as error:
            log.warning("A prediction was not sent again: %s", error)
        self._sends += 1
        self._heard_at = self._monotonic()

    def _send(self, again: bool = False, **options: Any) -> Any:
        arguments = (*self._arguments, True) if again else self._arguments
        send: Any = predict.apply_async
        return send(arguments, queue=QUEUE, argsrepr=self._label, **options)
