"""Rows read and written at every request by statements that are put together once.

For a small row the ORM takes several times longer to compile a query than the database to answer
it. Here the statement is kept, and the values of each field are converted as the ORM would.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Generic, TypeVar

from django.db import connection
from django.db.models import CharField, ForeignKey, IntegerField, Model, TextField

M = TypeVar("M", bound=Model)
Writers = tuple[tuple[str, Callable[..., Any] | None], ...]
MOST_VALUES = 30_000  # of one statement; SQLite takes 32,766
PLAIN = (CharField, TextField, IntegerField, ForeignKey)  # kept as they are


class Found(Generic[M]):
    """Rows of a model by a WHERE clause; other fields than the named load when read.

    `tail` is all that follows the table's name, with %s for each value.
    """

    def __init__(self, model: type[M], fields: Sequence[str], tail: str) -> None:
        self._model, self._tail = model, tail
        opts: Any = model._meta
        named = {opts.get_field(name).attname for name in (opts.pk.name, *fields)}
        self._fields = [f for f in model._meta.concrete_fields if f.attname in named]
        self._names = [field.attname for field in self._fields]
        columns = ", ".join(f'"{field.column}"' for field in self._fields)
        self._sql = f'SELECT {columns} FROM "{model._meta.db_table}" {tail}'  # noqa: S608

    def rows(self, *values: object) -> list[M]:
        made = self._model.from_db
        return [made(connection.alias, self._names, row) for row in self.lists(*values)]

    def lists(self, *values: object) -> list[list[Any]]:
        """The rows as the values of the id and the named fields, in the order of the model."""
        converters = _converters(self._model, tuple(self._names), connection.vendor)
        given: list[Any] = [_adapted(value) for value in values]
        with connection.cursor() as cursor:
            cursor.execute(self._sql, given)
            found = [list(row) for row in cursor.fetchall()]
        for row in found:
            for at, column, converts in converters:
                for convert in converts:
                    row[at] = convert(row[at], column, connection)
        return found


def quick_commit() -> str:
    """For an UPDATE that may be forgotten if the database's machine fails: do not wait."""
    if connection.vendor != "postgresql":
        return ""
    return "FROM (SELECT set_config('synchronous_commit', 'off', true)) AS quick"


def number(sql: str, *values: object) -> int:
    """The one number that a query answers with."""
    given: list[Any] = [_adapted(value) for value in values]
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return int(cursor.fetchone()[0])


def write(sql: str, *values: object) -> int:
    """Run a statement that changes rows; how many."""
    given: list[Any] = [_adapted(value) for value in values]
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return int(cursor.rowcount)


def insert(row: Model) -> None:
    """Write a new row and give it its id; no signals, no default of the database."""
    sql, writers = _insertion(type(row))
    with connection.cursor() as cursor:
        cursor.execute("".join(sql), _values(row, writers))
        row.pk = cursor.fetchone()[0]
    row._state.adding, row._state.db = False, connection.alias


def insert_all(rows: Sequence[Model]) -> None:
    """Write new rows of one model by as few statements as may be, and give them their ids."""
    if not rows:
        return
    (begin, marks, end), writers = _insertion(type(rows[0]))
    size = MOST_VALUES // len(writers)
    for part in (rows[at : at + size] for at in range(0, len(rows), size)):
        values = [value for row in part for value in _values(row, writers)]
        with connection.cursor() as cursor:
            cursor.execute(begin + ", ".join([marks] * len(part)) + end, values)
            keys = cursor.fetchall()
        for row, (key,) in zip(part, keys, strict=True):
            row.pk, row._state.adding, row._state.db = key, False, connection.alias


def _values(row: Model, writers: Writers) -> list[Any]:
    return [
        getattr(row, name) if write is None else write(getattr(row, name), connection)
        for name, write in writers
    ]


@cache
def _insertion(model: type[Model]) -> tuple[tuple[str, str, str], Writers]:
    """The statement, before, at and behind a row's values; and how each value is written."""
    key = model._meta.pk
    assert key is not None
    fields = [field for field in model._meta.concrete_fields if field is not key]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    begin = f'INSERT INTO "{model._meta.db_table}" ({columns}) VALUES '  # noqa: S608
    writers = tuple(
        (field.attname, None if isinstance(field, PLAIN) else field.get_db_prep_save)
        for field in fields
    )
    return (begin, f"({marks})", f' RETURNING "{key.column}"'), writers


@cache
def _converters(
    model: type[Model], names: tuple[str, ...], vendor: str
) -> list[tuple[int, Any, list[Any]]]:
    found = []
    fields = [f for f in model._meta.concrete_fields if f.attname in names]
    for at, field in enumerate(fields):
        column = field.get_col(model._meta.db_table)
        by_database = connection.ops.get_db_converters(column)
        if converts := [*by_database, *column.get_db_converters(connection)]:
            found.append((at, column, converts))
    return found


def _adapted(value: object) -> object:
    if isinstance(value, datetime.datetime):
        return connection.ops.adapt_datetimefield_value(value)
    return value
