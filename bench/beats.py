"""Heartbeats a second: of nodes and of running tasks, on PostgreSQL, from several processes."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from typing import Any

from bench.database import on_postgres
from bench.report import Report, percentile

RATE = 2500.0  # a second
NODES = 200


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("server", help="URL of a PostgreSQL server")
    options.add_argument("--processes", type=int, default=4)
    options.add_argument("--seconds", type=float, default=5.0)
    chosen = options.parse_args()
    report = Report("beats")
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="compass-bench-") as folder,
        on_postgres(chosen.server) as url,
    ):
        make = context.Process(target=prepare, args=(folder, url))
        make.start()
        make.join()
        barrier = context.Barrier(chosen.processes)
        with context.Pool(chosen.processes, ready, (folder, url, barrier)) as pool:
            words = [(chosen.seconds, n) for n in range(chosen.processes)]
            found = pool.starmap(beat, words, chunksize=1)
    took = [one for part in found for one in part]
    report.add("heartbeats of nodes", len(took) / chosen.seconds, "/s", RATE, more=True)
    report.add("a heartbeat, p99", percentile(took, 0.99), "ms")
    return report.finish()


def prepare(folder: str, url: str) -> None:
    _use(folder, url)
    from registry.models import Node

    for n in range(NODES):
        Node.register(f"cpu@{n}", cpus=8, memory=1, gpus=[], host=f"{n}", pid=1)


def ready(folder: str, url: str, barrier: Any) -> None:
    _use(folder, url)
    barrier.wait(60)


def beat(seconds: float, part: int) -> list[float]:
    from registry.models import Node

    nodes = list(Node.objects.order_by("pk"))[part::8]
    nodes[0].beat()
    took: list[float] = []
    begin = time.time()
    while (now := time.time()) < begin + seconds:
        assert nodes[len(took) % len(nodes)].beat()
        took.append((time.time() - now) * 1000)
    return took


def _use(folder: str, url: str) -> None:
    """This process's settings; the tables are there from the first one on."""
    os.environ["COMPASS_DATABASE_URL"] = url
    os.environ["COMPASS_DATA_DIR"] = folder
    os.environ["COMPASS_BROKER_URL"] = "memory://"
    os.environ["DJANGO_SETTINGS_MODULE"] = "compass.settings"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    sys.exit(main())
