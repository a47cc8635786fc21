"""Nodes of 64 cores, simulated: how many tasks run at once, and how the rate grows with nodes.

The nodes are rows and their workers threads of this process that start and end what they are given;
submit, placement, the guarded verbs and their events are the real ones. A task lasts a fixed
span, so with twice the nodes the same line should be done in half the time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.database import own_database
from bench.report import Report

CORES = 64
LINEAR = 0.85  # of n times the rate of one node


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lasts", type=float, default=4.0, help="seconds of a task")
    options.add_argument("--waves", type=int, default=3, help="tasks for each core")
    options.add_argument("--database", default="", help="URL of a PostgreSQL server")
    chosen = options.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="compass-bench-") as folder,
        own_database(Path(folder), chosen.database),
    ):
        return measure(chosen)


def measure(chosen: argparse.Namespace) -> int:
    report = Report("nodes")
    for cpus, most in ((1, CORES), (8, CORES // 8)):
        report.add(f"tasks of {cpus} cores at once on one node", at_once(cpus), "", most, more=True)  # fmt: skip
    rates = {}
    for nodes in (1, 2, 4):
        rates[nodes] = rate(nodes, chosen.lasts, chosen.waves)
        report.add(f"{nodes} nodes: tasks of one core", rates[nodes], "/s")
    for nodes in (2, 4):
        gain = rates[nodes] / rates[1] / nodes
        report.add(f"{nodes} nodes: rate / {nodes} times that of one", gain, "", LINEAR, more=True)  # fmt: skip
    return report.finish()


def at_once(cpus: int) -> int:
    """How many of twice as many as fit are placed on one node."""
    from registry.models import Task
    from registry.scheduler import dispatch

    clear()
    make_nodes(1)
    submit(2 * CORES // cpus, cpus)
    dispatch()
    placed = Task.objects.placed()
    assert sum(task.cpus for task in placed) <= CORES
    return placed.count()


def rate(nodes: int, lasts: float, waves: int) -> float:
    """Tasks a second, in the steady part: without the first and the last tenth."""
    from registry.models import Task

    clear()
    made = make_nodes(nodes)
    submit(nodes * CORES * waves, 1)
    stop = threading.Event()
    workers = [threading.Thread(target=work, args=(node, lasts, stop)) for node in made]
    placing = threading.Thread(target=place, args=(stop,))
    for thread in (*workers, placing):
        thread.start()
    try:
        while Task.objects.live().exists():
            time.sleep(0.2)
    finally:
        stop.set()
        for thread in (*workers, placing):
            thread.join()
    rows = Task.objects.values_list("created_at", "finished_at")
    begins = min(begin for begin, _ in rows)
    ends = max(end for _, end in rows if end)
    return len(rows) / (ends - begins).total_seconds()


def work(node: Any, lasts: float, stop: threading.Event) -> None:
    """A worker of that node: claims what it is given, and ends each task in its time."""
    from django.db import connection

    from registry import probes

    running: list[tuple[float, list[Any]]] = []
    while not stop.wait(0.02):
        given = given_to(node)
        if given:
            begun = probes.start_all(node, given)
            running.append((time.monotonic() + lasts, begun))
        due = [
            one for end, group in running if end <= time.monotonic() for one in group
        ]
        if due:
            probes.complete_all(due, {})
            running = [one for one in running if one[0] > time.monotonic()]
    connection.close()


def given_to(node: Any) -> list[tuple[int, int]]:
    from registry.models import Task
    from registry.states import State

    rows = Task.objects.filter(node=node, state=State.ASSIGNED)
    return list(rows.values_list("pk", "attempt"))


def place(stop: threading.Event) -> None:
    from django.db import connection

    from registry.models import Node
    from registry.scheduler import dispatch

    while not stop.wait(0.02):
        Node.objects.update(beat_at=_now())
        dispatch()
    connection.close()


def make_nodes(count: int) -> list[Any]:
    from registry.models import Node
    from registry.resources import GIB

    return [
        Node.register(
            f"cpu@{n}", cpus=CORES, memory=256 * GIB, gpus=[], host=f"{n}", pid=1
        )
        for n in range(count)
    ]


def submit(count: int, cpus: int) -> None:
    from django.contrib.auth.models import User
    from django.db import transaction

    from registry.models import Task

    users = [User.objects.get_or_create(username=f"user{n}")[0] for n in range(4)]
    with transaction.atomic():
        for n in range(count):
            Task.objects.submit(kind="probe", lane="cpu", owner=users[n % 4], cpus=cpus)


def clear() -> None:
    from registry.models import Node, Task

    Task.objects.all().delete()
    Node.objects.all().delete()


def _now() -> Any:
    from registry import clock

    return clock.now()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")
    sys.exit(main())
