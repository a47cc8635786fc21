"""Calls of one Compass over HTTP, repeated while it is away or busy."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from compass.nearby import default_key, default_url

PATIENCE = 30.0  # seconds that a server may be away or busy before a call fails
# One connection a thread is kept, also by programs with many threads and pauses.
LIMITS = httpx.Limits(max_keepalive_connections=100, keepalive_expiry=60.0)
# What a connection ends by that the server gave up while nothing was asked.
CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class CompassError(Exception):
    """The server's refusal: HTTP status, code of the catalogue, sentence, sentences by field."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", "unknown"))
        self.detail = str(problem.get("detail", f"HTTP {status}"))
        self.errors: dict[str, list[str]] = dict(problem.get("errors") or {})
        self.request_id = str(problem.get("request_id", ""))
        super().__init__(f"{self.detail} ({self.code})")


class Calls:
    """Repeats what failed for at most `patience` seconds; what creates something is made once."""

    def __init__(
        self,
        url: str = "",
        key: str = "",
        *,
        patience: float = PATIENCE,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = (url or default_url()).rstrip("/")
        self.patience = patience
        self.http = httpx.Client(
            base_url=f"{self.url}/api/v1/",
            headers={"Authorization": f"Bearer {key or default_key()}"},
            timeout=httpx.Timeout(60.0, connect=5.0),
            limits=LIMITS,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        return self.request("GET", path, params=params)

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        return self.request("POST", path, json=dict(body or {}), **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        file: Path | None = None,
        patience: float | None = None,
        is_pure: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """One call, repeated while the server is away or busy; its JSON.

        A POST that `is_pure` creates nothing.
        """
        sent = dict(headers or {})
        if method == "POST" and not is_pure:
            sent["Idempotency-Key"] = str(uuid.uuid4())
        limit = self.patience if patience is None else patience
        deadline, pause = time.monotonic() + limit, 0.2
        was_closed = False
        while True:
            try:
                response = self._once(method, path, file, headers=sent, **options)
            except httpx.TransportError as error:
                if isinstance(error, CLOSED) and not was_closed:
                    was_closed = True  # most likely while it was idle: at once again
                    continue
                if time.monotonic() + pause > deadline:
                    text = f"{self.url} does not answer: {error}"
                    problem = {"code": "unreachable", "detail": text}
                    raise CompassError(0, problem) from error
            else:
                busy = response.status_code in (429, 503)
                if busy:
                    pause = max(pause, float(response.headers.get("Retry-After", 1)))
                if not busy or time.monotonic() + pause > deadline:
                    return _content(response)
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _once(
        self, method: str, path: str, file: Path | None, **options: Any
    ) -> httpx.Response:
        if file is None:
            return self.http.request(method, path, **options)
        with file.open("rb") as content:
            return self.http.request(method, path, content=content, **options)


def _content(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json() if response.content else {}
    except ValueError:
        body = {"detail": response.text[:500]}
    if response.is_error:
        raise CompassError(response.status_code, body)
    found: dict[str, Any] = body
    return found
