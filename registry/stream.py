"""A task's life as server-sent events: state, waiting, progress, metric, log, done."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.db import connection
from django.http import StreamingHttpResponse
from rest_framework.renderers import BaseRenderer

from registry import clock, logs
from registry.errors import Problem
from registry.models import Task
from registry.serializers.tasks import EventSerializer
from registry.states import FINAL, State
from registry.waits import reasons

LOOK_EVERY = 0.5  # seconds
SILENT_FOR = 15.0  # seconds until a comment keeps proxies from closing
LASTS = 300.0  # seconds; then the viewer comes back with Last-Event-ID
PIECE = 16 * 1024  # bytes of log in one event
NOT_WAITING: dict[str, Any] = {"waiting_for": [], "estimated_start": None}

_slots = threading.BoundedSemaphore(max(1, settings.ENVIRONMENT.web_threads // 2))


class EventStreamRenderer(BaseRenderer):
    media_type = "text/event-stream"
    format = "event-stream"
    charset = "utf-8"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return json.dumps(data).encode()  # only errors come this way


class Position:
    """How far a viewer has read: last event, last metric, bytes of log."""

    def __init__(self, text: str) -> None:
        match = re.fullmatch(r"(\d{1,18})-(\d{1,18})-(\d{1,18})", text)
        numbers = [int(one) for one in match.groups()] if match else [0, 0, 0]
        self.event, self.point, self.log = numbers

    def __str__(self) -> str:
        return f"{self.event}-{self.point}-{self.log}"


def respond(task: Task, last_event_id: str) -> StreamingHttpResponse:
    """Stream from where the viewer was. Raises Problem `throttled` when too many look."""
    if not _slots.acquire(blocking=False):
        raise Problem("throttled", "Too many event streams are open.", retry_after=10)
    response = StreamingHttpResponse(
        _Held(follow(task, Position(last_event_id))), content_type="text/event-stream"
    )
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"
    return response


def follow(
    task: Task,
    position: Position,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """What is new since the position, until the task has ended or the time is over."""
    begun = spoken = monotonic()
    shown: Any = None
    waiting: Any = NOT_WAITING
    yield "retry: 2000\n\n"
    while monotonic() - begun < LASTS:
        try:
            task.refresh_from_db()
        except Task.DoesNotExist:
            return
        over = task.state in FINAL
        told = list(_news(task, position))
        if task.progress != shown:
            shown = task.progress
            told.append(_frame("progress", shown, position))
        if (now := _waiting(task)) != waiting:
            waiting = now
            told.append(_frame("waiting", waiting, position))
        if told:
            spoken = monotonic()
            yield from told
        if over:
            yield _frame("done", {"state": task.state, "reason": task.reason}, position)
            return
        if monotonic() - spoken >= SILENT_FOR:
            spoken = monotonic()
            yield ": still here\n\n"
        connection.close()
        sleep(LOOK_EVERY)


def _news(task: Task, position: Position) -> Iterator[str]:
    for event in task.events.filter(pk__gt=position.event):
        position.event = event.pk
        yield _frame("state", EventSerializer(event).data, position)
    for point in task.points.filter(pk__gt=position.point).order_by("pk")[:1000]:
        position.point = point.pk
        values = {"name": point.name, "step": point.step, "value": point.value}
        yield _frame("metric", values, position)
    while True:
        piece = logs.read(task, {"offset": str(position.log), "limit": str(PIECE)})
        if piece["next_offset"] <= position.log:
            return
        offset, position.log = position.log, piece["next_offset"]
        yield _frame("log", {"text": piece["text"], "offset": offset}, position)


def _waiting(task: Task) -> dict[str, Any]:
    """Why it waits and until when, as the last pass saw it."""
    if task.state != State.PENDING:
        return NOT_WAITING
    told = reasons(task, clock.now())
    return {"waiting_for": told, "estimated_start": task.estimated_start}


def _frame(name: str, value: Any, position: Position) -> str:
    return f"id: {position}\nevent: {name}\ndata: {json.dumps(value, default=str)}\n\n"


class _Held:
    """Frees its slot once, even if the viewer left before the first frame."""

    def __init__(self, frames: Iterator[str]) -> None:
        self._frames, self._is_open = frames, True

    def __iter__(self) -> _Held:
        return self

    def __next__(self) -> str:
        return next(self._frames)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            _slots.release()
            connection.close()
