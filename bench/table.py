"""A hundred thousand tasks in the table: what a list, a query and a pass of the placement take.

By default on SQLite; with --database on PostgreSQL, in a database of its own there. The web's part is
measured in this process, from the request to the answer's last byte.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.database import own_database
from bench.report import Report, median, percentile

ASKED = {
    "list": "?limit=50",
    "next page": "?limit=50&cursor={cursor}",
    "state": "?state=pending",
    "two states": "?state=failed&state=running",
    "no such state": "?state=paused",
    "kind": "?kind=predict",
    "owner": "?owner=user7",
    "owner and state": "?owner=user7&state=failed",
    "node": "?node=cpu@3",
    "reason": "?reason=out_of_memory",
    "no such reason": "?reason=disk_full",
    "created lately": "?created_after={late}",
    "created early": "?created_after={early}",
    "created in the future": "?created_after=2999-01-01T00:00:00Z",
    "name": "?q=affinity",
    "rare name": "?q=99999",
    "no such name": "?q=nothing+of+this+name",
    "by id": "/{middle}",
}
USERS, NODES, WAITING = 20, 8, 5_000


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=60)
    options.add_argument("--database", default="", help="URL of a PostgreSQL server")
    chosen = options.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="compass-bench-") as folder,
        own_database(Path(folder), chosen.database),
    ):
        return measure(chosen)


def measure(chosen: argparse.Namespace) -> int:
    from django.db import connection

    report = Report(f"table-{connection.vendor}")
    began = time.monotonic()
    fill(chosen.tasks)
    print(f"{chosen.tasks} tasks after {time.monotonic() - began:.0f} s", flush=True)
    for who in ("admin", "user7"):
        ask = asker(who)
        words = marks(ask)
        every: list[float] = []
        for name, query in ASKED.items():
            path = "/api/v1/tasks" + query.format(**words)
            took = timed(partial(ask, path), chosen.rounds)
            every += took
            report.add(f"{who}: {name}, p50", median(took), "ms")
            report.add(f"{who}: {name}, p99", percentile(took, 0.99), "ms", 50)
        report.add(f"{who}: all of them, p99", percentile(every, 0.99), "ms", 50)
    passes(report)
    return report.finish()


def passes(report: Report) -> None:
    from registry.scheduler import dispatch

    dispatch()  # which places what fits, and writes why the rest waits
    took = timed(dispatch, 30)
    report.add(f"a pass with {WAITING} in line, p50", median(took), "ms", 50)
    report.add("a pass, p99", percentile(took, 0.99), "ms")


def fill(count: int) -> None:
    """Mostly old tasks; a few thousand wait, some run, some failed."""
    import datetime

    from django.contrib.auth.models import User
    from django.db import connection, transaction

    from registry import clock
    from registry.models import Node, Task
    from registry.resources import GIB
    from registry.states import State

    User.objects.create_superuser("admin")
    users = [User.objects.create_user(f"user{n}") for n in range(USERS)]
    nodes = [
        Node.register(f"cpu@{n}", cpus=8, memory=64 * GIB, gpus=[], host=f"{n}", pid=1)
        for n in range(NODES)
    ]
    start = clock.now() - datetime.timedelta(seconds=count)
    rows = []
    for n in range(count):
        created = start + datetime.timedelta(seconds=n)
        row = Task(
            kind="predict" if n % 5000 == 4999 else "train",
            lane="cpu",
            owner=users[n % USERS],
            name=f"affinity on bindingdb_sample {n}",
            params={
                "recipe": "affinity",
                "params": {"epochs": 5, "hidden": 64},
                "n": n,
            },
            created_at=created,
            state=State.PENDING if n >= count - WAITING else State.COMPLETED,
            cpus=1 + n % 4,
            time_limit=3600 if n % 3 else None,
        )
        if row.state == State.COMPLETED:
            row.attempt, row.node = 1, nodes[n % NODES]
            row.assigned_at = row.started_at = row.beat_at = created
            row.finished_at = created + datetime.timedelta(minutes=1)
            if n % 100 == 7:
                row.state, row.reason, row.message = State.FAILED, "error", "It failed."
            if n % 20_000 == 7:
                row.reason = "out_of_memory"
        rows.append(row)
    with transaction.atomic():
        Task.objects.bulk_create(rows, batch_size=500)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def asker(name: str) -> Callable[[str], Any]:
    """Asks the web application itself, as that user."""
    from django.contrib.auth.models import User

    from compass.wsgi import application as handler
    from registry.models import ApiKey

    user = User.objects.get(username=name)
    _, key = ApiKey.make(user, "bench", ["read", "admin"])

    def ask(path: str) -> Any:
        where, _, query = path.partition("?")
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": where, "QUERY_STRING": query,
            "SERVER_NAME": "localhost", "SERVER_PORT": "80", "HTTP_HOST": "localhost",
            "HTTP_AUTHORIZATION": f"Bearer {key}", "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
        }  # fmt: skip
        status: list[str] = []
        answer = handler(environ, lambda line, headers: status.append(line))
        body = b"".join(answer)
        answer.close()
        assert status[0] == "200 OK", (path, status, body[:300])
        return json.loads(body)

    return ask


def marks(ask: Callable[[str], Any]) -> dict[str, str]:
    from urllib.parse import parse_qs, urlsplit

    from registry.models import Task

    page = ask("/api/v1/tasks?limit=50")
    cursor = parse_qs(urlsplit(page["next"]).query)["cursor"][0]
    numbers = Task.objects.filter(owner__username="user7").order_by("pk")
    middle = numbers[len(numbers) // 2]
    first, last = numbers[0], numbers[len(numbers) - 1]
    return {
        "cursor": cursor,
        "middle": str(middle.pk),
        "early": f"{first.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "late": f"{last.created_at:%Y-%m-%dT%H:%M:%SZ}",
    }


def timed(call: Callable[[], Any], rounds: int) -> list[float]:
    call()
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1000)
    return took


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")
    sys.exit(main())
