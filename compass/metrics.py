"""`GET /metrics` in the Prometheus format: what the database and the workers say when asked."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.db import OperationalError
from django.db.models import Count, Min, Sum
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from compass import health
from compass.api import plain_problem
from compass.nearness import is_near
from inference import commands, traffic
from registry import clock
from registry.errors import CATALOGUE, Problem
from registry.models import Incident, Node, Service, Task
from registry.states import State
from registry.tally import merged

log = logging.getLogger(__name__)

TYPE = "text/plain; version=0.0.4; charset=utf-8"
WAYS = (traffic.RAW, traffic.DJANGO, traffic.REST)
CACHE = ("hits", "misses", "loads", "failures", "evictions")
OFFERED = ("cpus", "gpus", "memory")

Row = tuple[list[str], float]  # values of the labels, and the figure


@health.only_safe
def metrics(request: HttpRequest) -> HttpResponseBase:
    """Open to the addresses of COMPASS_METRICS_ALLOW."""
    address = request.META.get("REMOTE_ADDR", "")
    if not is_near(address, settings.ENVIRONMENT.metrics_allow):
        text = "COMPASS_METRICS_ALLOW does not name this address."
        return plain_problem(request, Problem("forbidden", text))
    return HttpResponse(_written(), content_type=TYPE)


def _written() -> bytes:
    # Imported by who is asked: most processes never are.
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector())
    found: bytes = generate_latest(registry)
    return found


class _Collector:
    """What cannot be told now, for a disk or the database is away, does not hide the rest."""

    def collect(self) -> Iterator[Any]:
        parts = health.examine()
        rows = [([name], float(part["ok"])) for name, part in parts.items()]
        text = "Whether a part works, as /health/ready says."
        yield _gauge("part_up", text, ["part"], rows)
        untold: list[Row] = []
        for tell in (_disk, *FROM_DATABASE):
            try:
                # Each would wait for it anew, and Prometheus does not wait for long.
                if tell in FROM_DATABASE and not parts["database"]["ok"]:
                    raise OperationalError("The database is away.")
                yield from list(tell())
            except Exception:
                log.exception("A part of the metrics could not be told")
                untold.append(([tell.__name__.strip("_")], 1.0))
        yield _gauge("untold", "Parts that could not be told.", ["part"], untold)


def _gauge(name: str, text: str, labels: list[str], rows: Iterable[Row]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(f"compass_{name}", text, labels=labels), rows)


def _counter(name: str, text: str, labels: list[str], rows: Iterable[Row]) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(f"compass_{name}", text, labels=labels), rows)


def _filled(family: Any, rows: Iterable[Row]) -> Any:
    for values, figure in rows:
        family.add_metric([str(value) for value in values], float(figure))
    return family


def _disk() -> Iterator[Any]:
    free = shutil.disk_usage(settings.DATA_DIR).free
    yield _gauge("disk_free_bytes", "Free in the data directory.", [], [([], free)])


def _tasks() -> Iterator[Any]:
    tasks = Task.objects.filter(array_size=None).order_by()
    labels = ["kind", "lane", "state"]
    counts = tasks.values_list(*labels).annotate(n=Count("pk"))
    rows = [([*values], n) for *values, n in counts]
    yield _gauge("tasks", "Tasks that are kept.", labels, rows)
    now, waiting = clock.now(), tasks.filter(state=State.PENDING, held=False)
    oldest = waiting.values_list("lane").annotate(at=Min("created_at"))
    ages = [([lane], (now - at).total_seconds()) for lane, at in oldest]
    text = "Age of the oldest task that waits."
    yield _gauge("oldest_waiting_seconds", text, ["lane"], ages)


def _nodes() -> Iterator[Any]:
    now, nodes = clock.now(), list(Node.objects.filter(stopped_at=None))
    states = [([node.name, node.condition(now)], 1.0) for node in nodes]
    text = "1 for the state that a node is in."
    yield _gauge("node_state", text, ["node", "state"], states)
    ages = [([node.name], (now - node.beat_at).total_seconds()) for node in nodes]
    yield _gauge("node_beat_age_seconds", "Since the last beat.", ["node"], ages)
    sums = {what: Sum(what) for what in OFFERED}
    placed = Task.objects.placed().order_by().values("node_id").annotate(**sums)
    used: dict[Any, Any] = {row["node_id"]: row for row in placed}
    for what in OFFERED:
        rows: list[Row] = []
        for node in nodes:
            rows.append(([node.name, "offered"], getattr(node.capacity, what)))
            rows.append(([node.name, "used"], used.get(node.pk, {}).get(what, 0)))
        name = "memory_bytes" if what == "memory" else what
        text = f"Offered and used {what}."
        yield _gauge(f"node_{name}", text, ["node", "what"], rows)


def _inference() -> Iterator[Any]:
    told = commands.statuses()
    rows = [([node], status.get("bytes", 0)) for node, status in told.items()]
    yield _gauge("models_bytes", "Memory of the loaded models.", ["node"], rows)
    for what in CACHE:
        rows = [([node], status.get(what, 0)) for node, status in told.items()]
        text = f"{what.capitalize()} of the cache of models."
        yield _counter(f"models_{what}", text, ["node"], rows)


def _requests() -> Iterator[Any]:
    # Of what is written alone: what is just being written would seem to have been taken back.
    found = traffic.status(WAYS, is_written=True).items()
    text = "Answers: raw and django are predictions, rest is all that Django answers."
    rows = [([way], figures["count"]) for way, figures in found]
    yield _counter("requests", text, ["way"], rows)
    rows = [([way], figures["errors"]) for way, figures in found]
    yield _counter("request_errors", "Those of 400 and above.", ["way"], rows)
    quantiles = [
        ([way, f"0.{name[1:].rstrip('0')}"], figures[name])
        for way, figures in found
        for name in ("p50", "p99")
        if figures[name] is not None
    ]
    text = "Time until an answer, of the latest ones."
    yield _gauge("request_seconds", text, ["way", "quantile"], quantiles)


def _refused() -> Iterator[Any]:
    # What may be refused is told before it is: from nothing to one, Prometheus sees no rate.
    rates = {rule.name: 0 for rule in settings.ENVIRONMENT.throttles}
    nothing = {"throttled": rates, "malformed": {"": 0}, "busy": {"": 0}}
    rows: list[Row] = [
        ([code, rate, str(CATALOGUE[code][0])], count)
        for code, counts in merged(nothing, traffic.refused()).items()
        for rate, count in counts.items()
    ]
    text = "Answers of the front in Django's place; rate is the throttle's."
    yield _counter("refused", text, ["code", "rate", "status"], rows)


def _kept() -> Iterator[Any]:
    labels = ["service_name", "state"]
    counts = Service.objects.order_by().values_list(*labels).annotate(n=Count("pk"))
    rows = [([*values], n) for *values, n in counts]
    yield _gauge("services", "Registered instances.", labels, rows)
    kinds = Incident.objects.order_by().values_list("kind").annotate(n=Count("pk"))
    text = "Kept notes of rescues and of orphans."
    yield _gauge("incidents", text, ["kind"], [([kind], n) for kind, n in kinds])


FROM_DATABASE = (_tasks, _nodes, _inference, _requests, _refused, _kept)
