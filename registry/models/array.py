"""The head of an array: a row that stands for its elements and is never placed."""

from __future__ import annotations

from typing import Any

from registry import clock
from registry.models.change import Change, Stale
from registry.states import FINAL, LIVE, State


class Array(Change):
    """The verbs of a head, whose state is told by its elements; dispatch calls them."""

    class Meta:
        abstract = True

    def hold(self) -> None:
        """Keep the row to the end of the transaction; always before those of its elements."""
        tasks: Any = type(self)._default_manager
        try:
            self.refresh_from_db(from_queryset=tasks.select_for_update(no_key=True))
        except type(self).DoesNotExist:
            raise Stale(f"task {self.pk}: it is gone") from None

    def begin(self) -> None:
        """Run, as the first of its elements does."""
        rows = self._heads({State.PENDING})
        moment = clock.now()
        self._write(rows, "begin", at=moment, state=State.RUNNING, started_at=moment)

    def settle(self, state: State, reason: str, message: str, **changes: Any) -> None:
        """End as the elements did, once the last of them has ended."""
        assert state in FINAL
        self._write(
            self._heads(LIVE),
            "settle",
            say=message,
            state=state,
            reason=reason,
            message=message,
            finished_at=clock.now(),
            waiting_for=[],
            held=False,
            **changes,
        )

    def reopen(self) -> None:
        """Live again, because an element was retried."""
        self._write(
            self._heads(FINAL),
            "reopen",
            state=State.PENDING,
            reason="",
            message="",
            finished_at=None,
            cancel_requested_at=None,
        )

    def _heads(self, states: Any) -> Any:
        return self._rows(states).filter(array_size__isnull=False)
