"""What an inference worker does when it is told to preload, evict or forget, or to say what it holds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from celery.worker.control import control_command
from django.db import DatabaseError, connection

from inference import predictor
from inference.cache import Facts, Loaded, ModelCache
from inference.commands import failed, problem_of
from inference.stop import Stop, Stopped
from registry.addresses import resolve
from registry.errors import Problem
from registry.models import ModelVersion

log = logging.getLogger(__name__)

LONGEST = 3600.0  # seconds that somebody is kept waiting for a load
WARM_UP_WITHIN = 10.0  # seconds


class Control:
    """Commands for one cache; `obey` answers each with JSON."""

    def __init__(self, cache: ModelCache) -> None:
        self._cache = cache

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Raises LookupError or ValueError if nobody knows such a command."""
        match command["name"]:
            case "preload":
                seconds = min(float(command["seconds"]), LONGEST)
                pin = bool(command.get("pin"))
                return self.preload(int(command["version"]), seconds, pin=pin)
            case "evict":
                outcome = self._cache.evict(int(command["version"]))
                return {"outcome": outcome, "seconds": 0.0}
            case "forget":
                self._cache.forget(int(command["version"]))
                return {"outcome": "forgotten", "seconds": 0.0}
            case "status":
                return self._cache.status()
        raise LookupError(command["name"])

    def preload(
        self, version: int, seconds: float, *, pin: bool = False
    ) -> dict[str, Any]:
        """Load it, waiting for so long; the loading goes on when the time is over."""
        found = {"outcome": "loading", "seconds": seconds}

        def load() -> None:
            nonlocal found
            found = self._load(version, pin)

        thread = threading.Thread(target=load, name=f"preload-{version}", daemon=True)
        thread.start()
        thread.join(seconds)
        return found

    def preload_listed(self, addresses: Sequence[str]) -> list[dict[str, Any]]:
        """Load the models of these addresses one after another; how each went."""
        found = []
        for address in addresses:
            try:
                version = resolve(address).pk
            except Problem as problem:
                log.warning("%s is not preloaded: %s", address, problem.detail)
                found.append(problem_of(problem))
            except DatabaseError as error:
                log.warning("%s is not preloaded: %s", address, error)
                found.append(failed("The database does not answer."))
            else:
                found.append(self._load(version, pin=False))
        connection.close()
        return found

    def _load(self, version: int, pin: bool) -> dict[str, Any]:
        try:
            is_new, took = self._cache.preload(version, pin=pin, warm_up=warm_up)
        except Problem as problem:
            log.warning("Preloading failed: %s", problem.detail)
            return problem_of(problem)
        except DatabaseError:
            return failed("The database does not answer.", "database_unavailable")
        except Exception:
            log.exception("Preloading failed")
            return failed("It failed; the worker's log says why.", "internal")
        finally:
            connection.close()
        outcome = "loaded" if is_new else "was loaded"
        return {"outcome": outcome, "seconds": round(took, 4)}


def warm_up(model: Loaded, facts: Facts) -> None:
    """Let it answer its first example, so that no request meets what is slow only once.

    For a bounded time: a model that is at it is in use.
    """
    row = ModelVersion.objects.filter(pk=facts.version).first()
    examples = row.signature.get("examples") if row is not None else None
    if examples:
        with suppress(Stopped), Stop(time.monotonic() + WARM_UP_WITHIN):
            predictor.answer(model, examples[:1], facts)


@control_command()
def inference_help(state: Any) -> dict[str, str]:
    """Look whether another worker's batch has shards to take."""
    from inference import worker

    worker.CURRENT.help()
    return {"ok": "looking"}
