"""Trainings submitted by REST as fast as the stack takes them, and by how many clients.

The nodes are drained, so that it is the answers that are measured and not the trainings; every
submit still asks for a placement.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from typing import Any

from bench.report import Report, median, percentile
from bench.trial import Client, client, cpu, stack, training

RATE, SLOWEST = 300.0, 100.0  # a second, milliseconds


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--clients", default="1,8,16")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--database", default="", help="URL of a PostgreSQL database")
    chosen = options.parse_args()
    more = {"COMPASS_DATABASE_URL": chosen.database} if chosen.database else {}
    report = Report("submit-postgresql" if chosen.database else "submit")
    with stack(**more) as running:
        ask = client(running)
        for node in ask.get("/nodes")["results"]:
            ask.post(f"/nodes/{node['name']}/drain")
        storm(
            running.url, running.key, 4, 2.0
        )  # the pages are imported, the plans kept
        counts = [int(one) for one in chosen.clients.split(",")]
        for count in counts:
            before = cpu(running)
            took, wrong = storm(running.url, running.key, count, chosen.seconds)
            spent = cpu(running) - before
            report.errors += wrong
            is_last = count == counts[-1]
            rate = len(took) / chosen.seconds
            report.add(f"{count} clients: submits", rate, "/s", RATE if is_last else None, more=True)  # fmt: skip
            report.add(f"{count} clients: answer p50", median(took), "ms")
            report.add(f"{count} clients: answer p99", percentile(took, 0.99), "ms", SLOWEST)  # fmt: skip
            report.add(f"{count} clients: slowest", max(took), "ms")
            report.add(f"{count} clients: CPU of the stack a submit", 1000 * spent / len(took), "ms")  # fmt: skip
    return report.finish()


def storm(
    url: str, key: str, clients: int, seconds: float
) -> tuple[list[float], list[str]]:
    """What each answer took, in milliseconds, and what went wrong."""
    context = multiprocessing.get_context("fork")
    begin = time.monotonic() + 0.5
    with context.Pool(clients) as pool:
        parts = pool.starmap(submits, [(url, key, begin, seconds)] * clients)
    return [t for took, _ in parts for t in took], [e for _, w in parts for e in w]


def submits(
    url: str, key: str, begin: float, seconds: float
) -> tuple[list[float], list[str]]:
    ask = Client(url, key)
    took, wrong, body = [], [], dict(training())
    time.sleep(max(begin - time.monotonic(), 0.0))
    while (now := time.monotonic()) < begin + seconds:
        status, answer = ask.ask("POST", "/training/tasks", body)
        took.append((time.monotonic() - now) * 1000)
        if status != 202:
            wrong.append(_told(status, answer))
    return took, wrong


def _told(status: int, answer: Any) -> str:
    return f"{status} {str(answer)[:200]}"


if __name__ == "__main__":
    sys.exit(main())
