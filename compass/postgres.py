"""What each connection to PostgreSQL is told when it opens."""

from __future__ import annotations

from typing import Any

from django.db.backends.signals import connection_created
from django.dispatch import receiver


@receiver(connection_created, dispatch_uid="compass.postgres")
def plain_plans(connection: Any, **_: Any) -> None:
    """No compiling of plans: it takes longer than our statements do.

    By a statement, for PgBouncer refuses a start-up parameter.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET jit = off")
