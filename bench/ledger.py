"""Light tasks through the whole ledger, beside bare Celery and others in the same run.

A light task here is a probe: a row and an event for its submit, a place on a node, a message, a
start and an end, each guarded and each with its event, all in the database. The peers' task only
leaves a mark. All run in turns, several rounds; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from bench.peers import run
from bench.report import Report, median
from bench.trial import WAIT, stack

SHARE = 0.8  # of bare Celery's rate
BATCH = 200  # probes of one submit
USERS = 3


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=3000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--server", default="", help="URL of a PostgreSQL server")
    options.add_argument("--on-server", action="store_true", help="Compass there, too")
    chosen = options.parse_args()
    report = Report("ledger-postgresql" if chosen.on_server else "ledger")
    threads = (os.cpu_count() or 1) + 2  # as many as the stack's own worker has
    rates: dict[str, list[float]] = {}

    def note(name: str, rate: float) -> None:
        rates.setdefault(name, []).append(rate)
        print(f"{name}: {rate:.0f} a second", flush=True)

    if chosen.on_server:
        with run.on_postgres(chosen.server) as url:
            compass(chosen, url, threads, note)
    else:
        compass(chosen, "", threads, note)
    others(chosen, threads, note)
    bare = median(rates["bare Celery"])
    for name, found in rates.items():
        report.add(f"{name}", median(found), "/s")
    report.add("Compass / bare Celery", median(rates["Compass"]) / bare, "", SHARE, more=True)  # fmt: skip
    return report.finish()


def compass(chosen: Any, url: str, threads: int, note: Any) -> None:
    """Compass and its closest peer in turns, on one stack."""
    more = {"COMPASS_DATABASE_URL": url} if url else {}
    with stack(**more) as running:
        os.environ["COMPASS_DATA_DIR"] = str(running.data_dir)
        os.environ.update(more)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")
        import django

        django.setup()
        import compass.celery  # noqa: F401  (whose broker the messages go to)

        probes(300)
        for _ in range(chosen.rounds):
            note("Compass", probes(chosen.tasks))
            celery = run.celery(chosen.tasks, 1, threads, BENCH_PREFETCH="1")
            note("bare Celery", celery["rate"])
        careful = run.celery(chosen.tasks // 3, 1, threads)
        note("bare Celery without prefetch, as Compass sets it", careful["rate"])


def others(chosen: Any, threads: int, note: Any) -> None:
    if not run.OTHERS.exists():
        print("The other peers are not installed; `make bench` does it.")
        return
    few = chosen.tasks // 10
    note("RQ, a fork for each", run.rq(few, 1, 2)["rate"])
    note("RQ, SimpleWorker", run.rq(few, 1, 2, "rq.SimpleWorker")["rate"])
    if chosen.server:
        rate = run.procrastinate(few, 1, threads, chosen.server)["rate"]
        note("procrastinate", rate)
    fresh = [run.fresh_process() for _ in range(10)]
    note("a fresh process", 1000 / median(fresh))


def probes(count: int) -> float:
    """Submit so many and wait for the last one; how many a second."""
    from django.contrib.auth.models import User

    from registry import dispatcher
    from registry import probes as registry_probes
    from registry.models import Task
    from registry.states import State

    users = [User.objects.get_or_create(username=f"bench{n}")[0] for n in range(USERS)]
    began, keys = time.time(), []
    for at in range(0, count, BATCH):
        owner = users[at // BATCH % USERS]
        few = min(BATCH, count - at)
        keys += [one.pk for one in registry_probes.submit(owner, "cpu", few)]
        dispatcher.nudge()
    rows = Task.objects.filter(pk__gte=min(keys), pk__lte=max(keys), kind="probe")
    deadline = time.monotonic() + WAIT
    while left := rows.exclude(state=State.COMPLETED).count():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{left} of {count} probes have not ended")
        time.sleep(0.1)
    latest = rows.order_by("-finished_at").values_list("finished_at", flat=True)
    last = latest.first()
    assert last is not None
    return count / (last.timestamp() - began)


if __name__ == "__main__":
    sys.exit(main())
