"""A service's place in the registry, kept by a thread that ends with the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Self

from compass.calls import Calls, CompassError

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0  # seconds between tries to register; doubled up to the longest
LONGEST_PAUSE = 60.0  # seconds


class Registration:
    """Registers, beats, and registers again when the registry does not know it any more."""

    def __init__(self, client: Calls, body: Mapping[str, Any]) -> None:
        self.client, self.body = client, dict(body)
        self.service_id = ""
        self.interval = FIRST_PAUSE
        self.pause = FIRST_PAUSE
        self._closed = threading.Event()
        self.step()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop beating and leave the registry."""
        self._closed.set()
        self._thread.join()
        if self.service_id:
            try:
                self.client.request("DELETE", f"services/{self.service_id}")
            except CompassError as error:
                log.warning("The service could not be deregistered: %s", error)

    def step(self) -> float:
        """Register or beat once; the seconds until the next time."""
        try:
            if self.service_id:
                self.client.post(f"services/{self.service_id}/heartbeat", patience=0)
            else:
                answer = self.client.post("services/register", self.body, patience=0)
                self.service_id = str(answer["service_id"])
                self.interval = float(answer["heartbeat_interval"])
            self.pause = FIRST_PAUSE
        except CompassError as error:
            if error.status == 404 and self.service_id:
                self.service_id = ""
                return 0.0
            if 400 <= error.status < 500 and error.status != 429:
                raise
            pause, self.pause = self.pause, min(2 * self.pause, LONGEST_PAUSE)
            log.warning("The registry did not answer; again in %g s: %s", pause, error)
            return pause
        return self.interval

    def _run(self) -> None:
        wait = self.interval
        while not self._closed.wait(wait):
            try:
                wait = self.step()
            except Exception:
                log.exception("The service's registration was refused.")
                wait = LONGEST_PAUSE
