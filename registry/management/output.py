"""How commands print: rich on a terminal, plain lines elsewhere, JSON when asked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from registry.errors import Problem
from registry.models import Task

NEVER_STARTED = (
    "No stack was ever started on {}, or its tables are old; run `manage.py up`."
)
# Of SQLite, and the classes of PostgreSQL for a table or a column that is not there.
NO_TABLE = ("no such table", "no such column", "has no column named")
UNDEFINED = {"42P01", "42703"}


class Failed(CommandError):
    """The command did not do what it was asked; exit code 1."""

    def __init__(self, text: str) -> None:
        super().__init__(text, returncode=1)


class WrongUse(CommandError):
    """The command was asked for what cannot be; exit code 2."""

    def __init__(self, text: str) -> None:
        super().__init__(text, returncode=2)


class Command(BaseCommand):
    """A command whose failures become one sentence and an exit code."""

    needs_tables = True

    def execute(self, *args: Any, **options: Any) -> Any:
        if self.needs_tables and not has_database():
            raise Failed(NEVER_STARTED.format(settings.DATA_DIR))
        try:
            result = super().execute(*args, **options)
            self.stdout.flush()
            sys.stdout.flush()
            return result
        except Problem as problem:
            kind = WrongUse if problem.status == 422 else Failed
            raise kind(f"{problem.detail} [{problem.code}]") from None
        except DatabaseError as error:
            raise Failed(explained(error)) from error
        except BrokenPipeError:
            _forget_output()
            sys.exit(0)
        except OSError as error:
            raise Failed(f"{error}.") from error
        except KeyboardInterrupt:
            sys.exit(130)

    def print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2, default=str))

    def print_table(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = ""
    ) -> None:
        """A table on a terminal, tab-separated lines elsewhere."""
        texts = [[("" if cell is None else str(cell)) for cell in row] for row in rows]
        if not self.stdout.isatty():
            for line in [list(columns), *texts]:
                self.stdout.write("\t".join(line))
            return
        table = Table(*columns, title=title or None)
        for line in texts:
            table.add_row(*line)
        Console().print(table)


def has_database() -> bool:
    """False if the database is a file that nobody has made; looking makes none."""
    name = str(connection.settings_dict["NAME"])
    return connection.vendor != "sqlite" or ":memory:" in name or Path(name).exists()


def explained(error: DatabaseError) -> str:
    """What is wrong with the database, in one sentence."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    code = getattr(error.__cause__, "sqlstate", None)
    if code in UNDEFINED or any(words in text for words in NO_TABLE):
        return NEVER_STARTED.format(settings.DATA_DIR)
    return f"The database cannot be used: {text.rstrip('.')}."


def _forget_output() -> None:
    """Whoever read it has seen enough; the flush at the exit must not fail as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def task_of(text: str) -> Task:
    """The task of that id. Raises WrongUse or Failed."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise WrongUse(f"{text!r} is not a task's id.")
    task = Task.objects.select_related("node", "owner").filter(pk=int(text)).first()
    if task is None:
        raise Failed(f"There is no task {text}.")
    return task


def ago(moment: Any) -> str:
    """How long since, in one unit."""
    if moment is None:
        return ""
    seconds = (timezone.now() - moment).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
