"""Compass's tables in a database of their own, in this process, with no stack and no broker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


@contextmanager
def own_database(folder: Path, server: str = "") -> Iterator[None]:
    """SQLite in the folder, or a new database of a PostgreSQL server, dropped at the end."""
    for name in [name for name in os.environ if name.startswith("COMPASS_")]:
        del os.environ[name]
    os.environ["COMPASS_DATA_DIR"] = str(folder)
    os.environ["COMPASS_BROKER_URL"] = "memory://"
    if not server:
        yield from _ready()
        return
    with on_postgres(server) as url:
        os.environ["COMPASS_DATABASE_URL"] = url
        yield from _ready()


@contextmanager
def on_postgres(server: str) -> Iterator[str]:
    """The URL of a new database of that server."""
    name = f"compass_bench_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield server.rpartition("/")[0] + f"/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _ready() -> Iterator[None]:
    import django
    from django.core.management import call_command
    from django.db import connections

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")
    django.setup()
    import compass.celery  # noqa: F401  (the broker: none)

    call_command("migrate", verbosity=0)
    try:
        yield
    finally:
        connections.close_all()
