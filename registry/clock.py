"""The database's clock, which alone decides leases and expiries."""

from __future__ import annotations

import datetime

from django.db import connection


def now() -> datetime.datetime:
    """The database's time, aware, in UTC.

    SQLite is a library of this host and has no other clock than the host's.
    """
    if connection.vendor != "postgresql":
        return datetime.datetime.now(datetime.UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime.datetime = cursor.fetchone()[0]
    return moment


def in_sql() -> tuple[str, list[object]]:
    """The database's time as a part of a statement, with its values."""
    if connection.vendor == "postgresql":
        return "clock_timestamp()", []
    return "%s", [now()]
