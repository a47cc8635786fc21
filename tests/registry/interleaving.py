"""One call stopped before a statement of its choice, until another has ended or waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection

WITHIN = 60  # seconds, after which nothing goes on any more
LOOK_EVERY = 0.005  # seconds between two looks at what waits for a lock


class _Call(threading.Thread):
    """A call with a connection of its own; `stop_at` is the number of a statement, from 1."""

    def __init__(self, call: Callable[[], Any], stop_at: int = 0) -> None:
        super().__init__(daemon=True)
        self._call, self._stop_at, self._count = call, stop_at, 0
        self.result: Any = None
        self.backend = 0
        self.has_stopped, self.go_on = False, threading.Event()
        self.here = threading.Event()  # stopped, or ended

    def run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                self.backend = cursor.fetchone()[0]
            with connection.execute_wrapper(self._statement):
                self.result = self._call()
        except Exception as error:
            self.result = error
        finally:
            connection.close()
            self.here.set()

    def _statement(self, execute: Any, *args: Any) -> Any:
        self._count += 1
        if self._count == self._stop_at:
            self.has_stopped = True
            self.here.set()
            assert self.go_on.wait(WITHIN)
        return execute(*args)

    def waits(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s))", [self.backend])
            return bool(self.backend) and bool(cursor.fetchone()[0])


def beside(
    first: Callable[[], Any], second: Callable[[], Any], *, at: int
) -> tuple[bool, list[Any]]:
    """Stop `first` before its statement `at`, let `second` get as far as it can, and let go.

    Whether there was such a statement, and what each returned or raised. PostgreSQL alone.
    """
    one, other = _Call(first, at), _Call(second)
    one.start()
    assert one.here.wait(WITHIN)
    other.start()
    while not other.here.wait(LOOK_EVERY) and not other.waits():
        pass
    one.go_on.set()
    for call in (one, other):
        call.join(WITHIN)
        assert not call.is_alive()
    return one.has_stopped, [one.result, other.result]
