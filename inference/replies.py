"""Answers to online requests, and signs of those in hand: in Redis for a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Task
from celery.app import backends
from celery.states import READY_STATES
from django.conf import settings

log = logging.getLogger(__name__)

SIGN_EVERY = 0.5  # seconds, while a request is computed
KEPT = 60  # seconds
SOCKET_TIMEOUT = 2.0  # seconds, so that a frozen server holds nobody for long
RETRY = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}

_local = threading.local()


class Replied(Task):  # type: ignore[type-arg]
    """A task whose results have a backend of their own, one for each thread that waits."""

    abstract = True
    ignore_result = False

    @property  # type: ignore[misc]
    def backend(self) -> Any:
        if getattr(_local, "backend", None) is None:
            _local.backend = _make(self.app)
        return _local.backend

    def forget_connection(self) -> None:
        """Begin anew at the next use; after a lost connection the backend does not recover."""
        _local.backend = None

    def is_answered(self, request: str) -> bool:
        return self.backend.get_task_meta(request)["status"] in READY_STATES

    def give_sign(self, request: str) -> None:
        """Tell who waits for the request that it is in hand; each sign is another one."""
        self.backend.set(_sign_key(request), str(time.monotonic_ns()))

    def sign_of(self, request: str) -> Any:
        """The last sign of the request, or None."""
        return self.backend.get(_sign_key(request))


class InHand:
    """The requests that this process computes now.

    `sign` is called with each of them every half second, in a thread of its own, so that a quick
    request costs nothing more.
    """

    def __init__(self, sign: Callable[[str], object]) -> None:
        self._sign = sign
        self._requests: set[str] = set()
        self._begun = threading.Condition()
        self._thread: threading.Thread | None = None

    def __contains__(self, request: str) -> bool:
        return request in self._requests

    @contextmanager
    def hold(self, request: str) -> Iterator[None]:
        with self._begun:
            self._requests.add(request)
            self._begun.notify()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="signs", daemon=True
                )
                self._thread.start()
        try:
            yield
        finally:
            with self._begun:
                self._requests.discard(request)

    def give_signs(self) -> None:
        """Give a sign of each; best effort."""
        with self._begun:
            requests = list(self._requests)
        for request in requests:
            try:
                self._sign(request)
            except Exception as error:
                log.warning("No sign of a request was given: %s", error)

    def _run(self) -> None:
        while True:
            with self._begun:
                self._begun.wait_for(lambda: self._requests)
            time.sleep(SIGN_EVERY)
            self.give_signs()


def _sign_key(request: str) -> str:
    return f"inference-in-hand-{request}"


def _make(app: Any) -> Any:
    found: Any = backends.by_url(settings.ENVIRONMENT.result_url, app.loader)
    kind, url = found
    kind = type(kind.__name__, (kind,), {"retry_policy": RETRY})
    backend = kind(app=app, url=url, expires=KEPT)
    if hasattr(backend, "connparams"):
        backend.connparams["socket_timeout"] = SOCKET_TIMEOUT
        if "path" not in backend.connparams:
            backend.connparams["socket_connect_timeout"] = SOCKET_TIMEOUT
    return backend
