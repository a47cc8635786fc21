"""Locks that the database holds, for work that one process at a time may do."""

from __future__ import annotations

import zlib

from django.db import connection


def lock_until_commit(name: str) -> None:
    """Wait for the named lock and hold it to the end of the transaction.

    On SQLite every transaction is immediate, and so holds the only write lock already.
    """
    assert connection.in_atomic_block
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(%s, %s)",
                [0x436F6D70, zlib.crc32(name.encode()) - 2**31],
            )


def check_references() -> None:
    """Look at foreign keys now, not first at the commit; what they name is kept until then.

    Raises IntegrityError. On SQLite nobody else removes anything within a transaction.
    """
    if connection.vendor == "postgresql":
        connection.check_constraints()
