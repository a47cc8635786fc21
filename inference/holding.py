"""A model held for a while, loaded in a thread so that its holder can be called off."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from django.db import InterfaceError, OperationalError, connection

from inference.cache import Facts, Loaded, ModelCache
from registry.errors import Problem

log = logging.getLogger(__name__)

LOOK_EVERY = 0.1  # seconds
RETRY_EVERY = 1.0  # seconds, while memory is short or the database is away
BROKEN = "The model could not be loaded; the worker's log says why."


class Held(threading.Thread):
    """One use of a model of the cache, from the moment that it is loaded until `let_go`."""

    def __init__(
        self,
        cache: ModelCache,
        version: int,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(name=f"load-{version}", daemon=True)
        self._cache, self._version, self._sleep = cache, version, sleep
        self._lock, self._stack = threading.Lock(), ExitStack()
        self._ready, self._is_over = threading.Event(), False
        self._found: tuple[Loaded, Facts] | None = None
        self._problem = Problem("model_unavailable", BROKEN)

    def run(self) -> None:
        try:
            self.load()
        finally:
            connection.close()

    def load(self) -> None:
        """Load it, waiting for memory if others fill it."""
        try:
            while not self._is_over and not self._try():
                self._sleep(RETRY_EVERY)
        except Problem as problem:
            self._problem = problem
        except Exception:
            log.exception("Version %s", self._version)
        finally:
            with self._lock:
                self._ready.set()
                if self._is_over:
                    self._stack.close()

    def wait(self, look: Callable[[], object]) -> tuple[Loaded, Facts]:
        """The model once it is loaded; `look` may call the waiting off by raising.

        Raises Problem if it cannot be loaded.
        """
        look()
        while not self._ready.wait(LOOK_EVERY):
            look()
        if self._found is None:
            raise self._problem
        return self._found

    def let_go(self) -> None:
        with self._lock:
            self._is_over = True
            if self._ready.is_set():
                self._stack.close()

    def _try(self) -> bool:
        try:
            self._found = self._stack.enter_context(self._cache.use(self._version))
        except Problem as problem:
            if problem.retry_after is None:
                raise
            return False
        except (OperationalError, InterfaceError) as error:
            log.warning("The database is away: %s", error)
            return False
        return True
