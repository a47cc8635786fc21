"""Answers to online requests: in Redis for a minute, not in the database."""

from __future__ import annotations

import threading
from typing import Any

from celery import Task
from celery.app import backends
from django.conf import settings

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
