"""Whether the process answers, and whether all of it works."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from functools import wraps
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from compass.api import plain_problem
from registry import clock, room
from registry.errors import Problem
from registry.models import Node, Pulse

BEAT_WITHIN = datetime.timedelta(seconds=30)
BROKER_WITHIN = 1  # second


def only_safe(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """GET and HEAD; every other method is a 405."""

    @csrf_exempt
    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponseBase:
        if request.method in ("GET", "HEAD"):
            return view(request)
        response = plain_problem(
            request, Problem("method_not_allowed", "Only GET and HEAD are known here.")
        )
        response["Allow"] = "GET, HEAD"
        return response

    return checked


@only_safe
def alive(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@only_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 if every part works, else 503; each part says what it found."""
    parts = examine()
    good = all(part["ok"] for part in parts.values())
    body = {"status": "ready" if good else "not ready", "parts": parts}
    return JsonResponse(body, status=200 if good else 503)


def examine() -> dict[str, dict[str, Any]]:
    """Each part by name, with `ok` and a sentence."""
    checks: dict[str, Callable[[], tuple[bool, str]]] = {
        "database": _database,
        "broker": _broker,
        "disk": _disk,
    }
    parts = {name: _looked(check) for name, check in checks.items()}
    if not parts["database"]["ok"]:  # it may have taken seconds to say so
        unknown = {"ok": False, "detail": "unknown while the database is away"}
        return parts | {"beat": unknown, "workers": unknown}
    parts["beat"] = _looked(_beat)
    return parts | {
        name: {"ok": ok, "detail": text} for name, (ok, text) in _lanes().items()
    }


def _looked(check: Callable[[], tuple[bool, str]]) -> dict[str, Any]:
    try:
        ok, detail = check()
    except Exception as error:
        return {"ok": False, "detail": f"{type(error).__name__}"}
    return {"ok": ok, "detail": detail}


def _database() -> tuple[bool, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True, connection.vendor


def _broker() -> tuple[bool, str]:
    with current_app.connection(connect_timeout=BROKER_WITHIN) as link:
        link.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_WITHIN)
        channel: Any = link.default_channel
        # As Celery declares it: RabbitMQ refuses a queue of other properties.
        channel.queue_declare("control", durable=True, auto_delete=False)
    return True, "answers"


def _disk() -> tuple[bool, str]:
    free = shutil.disk_usage(settings.DATA_DIR).free
    return free > room.DISK, f"{_gib(free)} free, {_gib(room.DISK)} needed"


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"


def _beat() -> tuple[bool, str]:
    pulse = Pulse.objects.filter(name="beat").first()
    if pulse is None:
        return False, "has not ticked yet"
    age = clock.now() - pulse.at
    return age < BEAT_WITHIN, f"ticked {age.total_seconds():.0f} s ago"


def _lanes() -> dict[str, tuple[bool, str]]:
    """The lanes that every installation has, and those that nodes have joined."""
    moment = clock.now()
    nodes = list(Node.objects.filter(stopped_at=None))
    names = {"cpu", "inference", "control"} | {node.lane for node in nodes}
    found = {}
    for lane in sorted(names):
        up = [
            n
            for n in nodes
            if n.lane == lane and n.condition(moment) in ("up", "draining")
        ]
        found[f"{lane} workers"] = bool(up), f"{len(up)} up"
    return found
