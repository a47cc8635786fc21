"""Why a run stops before its work is done."""

from __future__ import annotations

from django.db import InterfaceError, OperationalError

AWAY = (OperationalError, InterfaceError)  # the database does not answer
RETRY_EVERY = 1.0  # seconds, while the database is away or memory is short


class Ended(Exception):
    """The run is over early: by a wish (cancel, pause, move, release), time_limit, or abandon."""

    def __init__(self, wish: str) -> None:
        super().__init__(wish)
        self.wish = wish
