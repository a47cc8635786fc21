"""A stack on a directory of its own, for one benchmark, and a plain client for it."""

from __future__ import annotations

import http.client
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from compass.trial import TrialStack

KEPT = 5.0  # seconds that a connection may stand still
WAIT = 120.0  # seconds for what must happen


class Client:
    """One kept connection; the standard library's client, for it costs the least."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._line = http.client.HTTPConnection(parts.netloc, timeout=60)
        self._used = time.monotonic()
        self._headers = {"Authorization": f"Bearer {key}"}

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and answer."""
        if time.monotonic() - self._used > KEPT:
            self._line.close()  # the web cuts what stands still; it opens again by itself
        self._used = time.monotonic()
        sent = None if body is None else json.dumps(body)
        more = {"Content-Type": "application/json"} if sent else {}
        self._line.request(
            method, f"/api/v1{path}", sent, {**self._headers, **more, **headers}
        )
        answer = self._line.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def get(self, path: str) -> Any:
        return self._good("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        return self._good("POST", path, body)

    def until(
        self, path: str, states: set[str], seconds: float = WAIT, *, pause: float = 0.02
    ) -> Any:
        """Wait until the task is in one of the states, looking every `pause` seconds."""
        deadline = time.monotonic() + seconds
        while (task := self.get(path))["state"] not in states:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} is {task['state']}: {task['message']}")
            time.sleep(pause)
        return task

    def _good(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.ask(method, path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer


@contextmanager
def stack(**environment: str) -> Iterator[TrialStack]:
    """A fresh stack with nothing of this shell's settings."""
    for name in [name for name in os.environ if name.startswith("COMPASS_")]:
        del os.environ[name]
    with (
        tempfile.TemporaryDirectory(prefix="compass-bench-") as folder,
        TrialStack(Path(folder), environment=environment) as running,
    ):
        yield running


def client(running: TrialStack) -> Client:
    return Client(running.url, running.key)


def cpu(running: TrialStack) -> float:
    """Seconds of a core that the whole stack has had so far; steady on a busy machine too."""
    total = 0.0
    for process in running.members():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def training(**fields: Any) -> Mapping[str, Any]:
    """The smallest training there is: a few rows, one epoch."""
    return {
        "recipe": "affinity",
        "dataset": "bindingdb_sample",
        "params": {"mode": "smoke_test"},
        **fields,
    }
