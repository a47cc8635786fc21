"""Calls that happen at once, each in a thread with its own database connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection

WITHIN = 60  # seconds, after which a race is taken for a deadlock


def race(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make all calls at the same moment; what each returned, or raised, in their order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            barrier.wait(WITHIN)
            return call()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [
            future.result(WITHIN) for future in [pool.submit(run, c) for c in calls]
        ]
