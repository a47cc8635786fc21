"""Cancelling a training until none of its processes is left, and what a killed worker costs.

Cancel: from before the request to the moment when no process of the job's group lives. The worker:
kill -9 of it, and how soon its training runs again under the worker that the stack starts anew;
then the same with a worker that does not come back, until the rescue gives its task to another.
"""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from bench import loop
from bench.report import Report, median, percentile
from bench.trial import WAIT, Client, client, stack, training
from compass.trial import TrialStack
from training.processes import group_members

LONG = {"epochs": 1000, "hidden": 256}
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cancels", type=int, default=30)
    options.add_argument("--kills", type=int, default=5)
    options.add_argument("--losses", type=int, default=2)
    chosen = options.parse_args()
    report = Report("stops")
    with loop.known() as variables, stack(**variables) as running:
        ask = client(running)
        gone = [cancelled(ask) for _ in range(chosen.cancels)]
        report.add("cancel asked -> no process left, p50", median(gone), "ms")
        report.add("cancel asked -> no process left, p99", percentile(gone, 0.99), "ms", 1000)  # fmt: skip
        back = [killed(ask, running) for _ in range(chosen.kills)]
        report.add("worker killed and started again -> runs, p50", median(back), "s", 2)
        report.add("worker killed and started again -> runs, worst", max(back), "s")
        moved = [lost(ask, running, variables) for _ in range(chosen.losses)]
        if moved:
            report.add("worker lost for good -> runs elsewhere, worst", max(moved), "s", 45)  # fmt: skip
    return report.finish()


def begun(ask: Client) -> tuple[str, int]:
    """A training that is at work; its path and its process."""
    body = training(recipe="loop", params=LONG, resources={"cpus": 1})
    path = f"/tasks/{ask.post('/training/tasks', body)['id']}"
    ask.until(path, {"running"})
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        attempt = ask.get(f"{path}/attempts")["results"][-1]
        if attempt["pid"] and "first step" in str(ask.get(f"{path}/logs")):
            return path, int(attempt["pid"])
        time.sleep(0.05)
    raise TimeoutError(f"{path} has not begun")


def cancelled(ask: Client) -> float:
    path, pid = begun(ask)
    began = time.monotonic()
    ask.post(f"{path}/cancel")
    while group_members(pid):
        if time.monotonic() - began > WAIT:
            raise TimeoutError(f"{path} still has processes")
        time.sleep(0.002)
    took = (time.monotonic() - began) * 1000
    ask.until(path, {"cancelled"})
    return took


def killed(ask: Client, running: TrialStack) -> float:
    path, _ = begun(ask)
    worker(running).kill()
    took = runs_again(ask, path, time.time())
    ask.post(f"{path}/cancel")
    ask.until(path, {"cancelled"})
    return took


def lost(ask: Client, running: TrialStack, variables: dict[str, str]) -> float:
    """With a second worker on this machine, of another name, which has the task first."""
    ask.post(f"/nodes/{worker_name(running)}/drain")
    other = second_worker(running, variables)
    try:
        path, _ = begun(ask)
        ask.post(f"/nodes/{worker_name(running)}/undrain")
        os.killpg(other.pid, signal.SIGKILL)
        took = runs_again(ask, path, time.time())
        ask.post(f"{path}/cancel")
        ask.until(path, {"cancelled"})
        return took
    finally:
        other.kill()
        other.wait()


def runs_again(ask: Client, path: str, since: float) -> float:
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        task = ask.get(path)
        if task["attempt"] > 1 and task["state"] == "running":
            started = datetime.datetime.fromisoformat(task["started_at"])
            return started.timestamp() - since
        time.sleep(0.02)
    raise TimeoutError(f"{path} did not run again: {task['state']} {task['message']}")


def worker(running: TrialStack) -> psutil.Process:
    found = [one for one in running.members() if "-n cpu@" in " ".join(one.cmdline())]
    return min(found, key=lambda one: one.create_time())


def worker_name(running: TrialStack) -> str:
    words = worker(running).cmdline()
    return words[words.index("-n") + 1]


def second_worker(
    running: TrialStack, variables: dict[str, str]
) -> subprocess.Popen[Any]:
    command = [sys.executable, "-m", "celery", "-A", "compass", "worker"]
    command += ["-n", "cpu@second", "-Q", "cpu.second", "--pool", "threads"]
    command += ["--concurrency", "2", "--without-mingle", "--without-gossip"]
    environment = {**os.environ, **variables, "COMPASS_NODE_NAME": "second"}
    environment["COMPASS_DATA_DIR"] = str(running.data_dir)
    other = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    ask = client(running)
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        nodes = {one["name"]: one["state"] for one in ask.get("/nodes")["results"]}
        if nodes.get("cpu@second") == "up":
            return other
        time.sleep(0.1)
    raise TimeoutError("the second worker is not up")


if __name__ == "__main__":
    sys.exit(main())
