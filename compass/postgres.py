"""What each connection to PostgreSQL is told when it opens."""

from __future__ import annotations

from typing import Any

from django.db.backends.signals import connection_created
from django.dispatch import receiver


@receiver(connection_created, dispatch_uid="compass.postgres")
def begin(connection: Any, **_: Any) -> None:
    """Patience with bounds, and no compiling of plans: it takes longer than our statements do.

    The latter by a statement, for PgBouncer refuses a start-up parameter.
    """
    if connection.vendor == "postgresql":
        # Imported here because it imports the driver.
        from compass.patience import Patient

        connection.connection.__class__ = Patient
        with connection.cursor() as cursor:
            cursor.execute("SET jit = off")
