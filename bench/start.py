"""How soon a submitted training runs and has made its first optimizer step, one at a time.

Both by the clock that this machine shares with the stack: from before the request is sent. Peers
in the same run: a fresh process that imports torch and makes one step, and how long a task of bare
Celery, RQ and procrastinate waits to begin.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
import time

from bench import loop
from bench.peers import run
from bench.report import Report, median, percentile
from bench.trial import client, stack, training

STEP = re.compile(r"first step at ([0-9.]+)")
ONE_STEP = (
    "import torch; from training.optimizers import make_optimizer;"
    "m = torch.nn.Linear(64, 1); o = make_optimizer(m, 'adamw', 1e-3, 0.0);"
    "m(torch.randn(8, 64)).sum().backward(); o.step()"
)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--server", default="", help="URL of a PostgreSQL server")
    chosen = options.parse_args()
    report = Report("start")
    running_after: list[float] = []
    step_after: list[float] = []
    with loop.known() as variables, stack(**variables) as running:
        ask = client(running)
        for number in range(chosen.rounds + 3):
            began = time.time()
            task = ask.post("/training/tasks", training(recipe="loop", params={}))
            path = f"/tasks/{task['id']}"
            task = ask.until(path, {"completed", "failed", "cancelled"})
            found = STEP.search(str(ask.get(f"{path}/logs")))
            if task["state"] != "completed" or found is None:
                report.errors.append(f"{path}: {task['state']} {task['message']}")
                continue
            if number >= 3:  # the first ones import what the later ones find
                started = datetime.datetime.fromisoformat(task["started_at"])
                running_after.append((started.timestamp() - began) * 1000)
                step_after.append((float(found[1]) - began) * 1000)
    report.add("submit -> running, p50", median(running_after), "ms", 100)
    report.add("submit -> running, p99", percentile(running_after, 0.99), "ms", 500)
    report.add("submit -> first optimizer step, p50", median(step_after), "ms", 600)
    report.add("submit -> first optimizer step, p99", percentile(step_after, 0.99), "ms")  # fmt: skip
    peers(report, chosen.server)
    return report.finish()


def peers(report: Report, server: str) -> None:
    threads = (os.cpu_count() or 1) + 2
    waits = {"bare Celery": run.celery(20, 30, threads)["waits"]}
    if run.OTHERS.exists():
        waits["RQ"] = run.rq(20, 20, 1)["waits"]
        if server:
            found = run.procrastinate(20, 20, threads, server)
            waits["procrastinate"] = found["waits"]
    for name, found in waits.items():
        report.add(f"{name}: sent -> begins (nothing kept), p50", median(found), "ms")
    fresh = [run.fresh_process(ONE_STEP) for _ in range(5)]
    report.add("a fresh process -> first optimizer step, p50", median(fresh), "ms")


if __name__ == "__main__":
    sys.exit(main())
