"""Django's SQLite, where who wants to write takes a turn instead of sleeping."""

from __future__ import annotations

from typing import Any

from django.db.backends.sqlite3 import base

from compass.sqlite.turn import Turn, turn_of

WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER"})


class DatabaseWrapper(base.DatabaseWrapper):
    """Holds the turn from the beginning of a transaction to its end, or for one write."""

    display_name = "SQLite"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turn: Turn | None = None  # while it is ours

    def take_turn(self) -> None:
        name = str(self.settings_dict["NAME"])
        if self._turn is None and not (self.is_in_memory_db() or name[:5] == "file:"):
            turn = turn_of(name)
            self._turn = turn if turn.take() else None

    def give_turn_back(self) -> None:
        """Once no transaction is open; one whose end failed is still to be rolled back."""
        if self._turn is not None and not self.is_writing():
            turn, self._turn = self._turn, None
            turn.give_back()

    def is_writing(self) -> bool:
        return self.connection is not None and bool(self.connection.in_transaction)

    def create_cursor(self, name: Any = None) -> Cursor:
        cursor: Cursor = self.connection.cursor(factory=Cursor)
        cursor.wrapper = self
        return cursor

    def _start_transaction_under_autocommit(self) -> None:
        self.take_turn()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        finally:
            self.give_turn_back()  # only if it did not begin

    def _commit(self) -> None:
        try:
            super()._commit()  # type: ignore[misc]
        finally:
            self.give_turn_back()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self.give_turn_back()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            if self._turn is not None:
                turn, self._turn = self._turn, None
                turn.give_back()


class Cursor(base.SQLiteCursorWrapper):
    """Takes a turn for a write that is a transaction of its own."""

    wrapper: DatabaseWrapper

    def execute(self, query: Any, params: Any = None) -> Any:
        if not self._needs_turn(query):
            return super().execute(query, params)
        self.wrapper.take_turn()
        try:
            return super().execute(query, params)
        finally:
            self.wrapper.give_turn_back()

    def executemany(self, query: Any, param_list: Any) -> Any:
        if not self._needs_turn(query):
            return super().executemany(query, param_list)
        self.wrapper.take_turn()
        try:
            return super().executemany(query, param_list)
        finally:
            self.wrapper.give_turn_back()

    def _needs_turn(self, query: str) -> bool:
        if self.wrapper.is_writing():
            return False
        return query.lstrip()[:8].partition(" ")[0].upper() in WRITES
