"""What a connection to PostgreSQL is like, whatever the tests themselves run on."""

from __future__ import annotations

from typing import Any

import dj_database_url
import pytest
from django.db.utils import ConnectionHandler

from tests import postgres


@pytest.mark.django_db
def test_no_plan_is_compiled() -> None:
    handler = ConnectionHandler({"default": dj_database_url.parse(postgres.url())})
    connection: Any = handler["default"]
    for _ in range(2):  # a new connection is told again
        try:
            with connection.cursor() as cursor:
                cursor.execute("SHOW jit")
                assert cursor.fetchone() == ("off",)
        finally:
            connection.close()
