"""How a change of a task is written: one guarded UPDATE, with its event beside it."""

from __future__ import annotations

import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.db.models import Case, F, Q, Value, When

from registry import clock, rows
from registry.models.use import Use
from registry.resources import GPU_WEIGHT
from registry.states import Move, State


class Stale(Exception):
    """The row has moved on; the caller stops and writes nothing more."""


class Change(models.Model):
    """The writing below the verbs of Life."""

    if TYPE_CHECKING:
        pk: int
        kind: str
        owner_id: int
        cpus: int
        gpus: int
        state: str
        attempt: int
        reason: str
        message: str
        retries: int
        max_retries: int
        releases: int
        started_at: datetime.datetime | None
        cancel_requested_at: datetime.datetime | None
        pause_requested_at: datetime.datetime | None
        array: Any
        attempts: Any
        dependencies: Any
        elements: Any
        events: Any

    class Meta:
        abstract = True

    def note(
        self,
        verb: str,
        message: str = "",
        *,
        at: datetime.datetime | None = None,
        reason: str = "",
    ) -> None:
        """Append one line to the timeline."""
        event = _event(type(self))(
            task_id=self.pk,
            at=at or clock.now(),
            verb=verb,
            state=self.state,
            attempt=self.attempt,
            reason=reason,
            message=message,
        )
        rows.insert(event)

    def _rows(self, states: Any) -> Any:
        tasks: Any = type(self)._default_manager
        return tasks.filter(pk=self.pk, state__in=states)

    def _this_attempt(self, states: Any) -> Any:
        return self._rows(states).filter(attempt=self.attempt)

    def _live_attempt(self) -> Any:
        return self.attempts.filter(number=self.attempt, finished_at=None)

    def _unless_running(self, field: str, value: Any) -> Case:
        kind: Any = self._meta.get_field(field)
        new = Value(value, output_field=kind)
        owned = Q(state=State.RUNNING) | Q(array_size__isnull=False)
        return Case(When(owned, then=F(field)), default=new)

    def _lock(self, move: Move) -> None:
        """Hold the row, so that a wish cannot come between the look and the write."""
        rows = self._this_attempt(move.sources).select_for_update()
        try:
            self.refresh_from_db(from_queryset=rows)
        except type(self).DoesNotExist:
            raise Stale(f"task {self.pk}: too late to {move.name.lower()}") from None

    def _move(self, move: Move, *, also: Q | None = None, **changes: Any) -> None:
        """Make one move, if the row is still this attempt and at the move's start."""
        rows = self._this_attempt(move.sources).filter(also or Q())
        self._write(rows, move.name.lower(), state=move.target, **changes)

    def _end_attempt(self, fields: dict[str, Any], **why: str) -> None:
        moment = clock.now()
        ended = self._live_attempt().update(
            finished_at=moment, outcome=self.state, **why, **fields
        )
        if ended and self.started_at:
            took = max((moment - self.started_at).total_seconds(), 0.0)
            Use.add(self.owner_id, took * (self.cpus + GPU_WEIGHT * self.gpus), moment)

    def _write(
        self,
        rows: Any,
        verb: str,
        *,
        at: datetime.datetime | None = None,
        say: str = "",
        **changes: Any,
    ) -> None:
        with transaction.atomic():
            if rows.update(**changes) != 1:
                raise Stale(f"task {self.pk}: too late to {verb}")
            self.refresh_from_db()
            reason = self.reason if "reason" in changes else ""
            self.note(verb, say, at=at, reason=reason)


@cache
def _event(kind: type[models.Model]) -> Any:
    """The model of its events; `self.events` would make a manager for each."""
    return kind._meta.get_field("events").related_model
