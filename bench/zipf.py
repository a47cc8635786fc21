"""A hundred models and memory for ten: how near the cache comes to an ideal one.

    python -m bench.zipf [--requests 20000] [--models 100] [--room 10] [--clients 8]

Requests ask for models by Zipf's law with exponent 1.1, from clients that each wait for their answer. The ideal
drops the least recently asked of ten, in the order in which the requests were sent. First the number of models is limited, then
their bytes. Every answer is compared to bare torch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bench.batch import ROOT
from bench.report import Report, percentile
from bench.serving import models
from bench.serving.recipes import announce
from bench.trial import Client, client, stack
from compass.trial import TrialStack

EXPONENT = 1.1
NEAR = 2.0  # per cent of all requests
SHARE = 2  # of a worker's memory, models may have one half


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=20_000)
    options.add_argument("--models", type=int, default=100)
    options.add_argument("--room", type=int, default=10)
    options.add_argument("--clients", type=int, default=8)
    chosen = options.parse_args()
    wanted = sequence(chosen.models, chosen.requests)
    item = models.items("tiny", 1)
    right = [
        models.answer(models.make("tiny", seed=n), "tiny", item)[0]
        for n in range(chosen.models)
    ]
    ideal = 100 * hits(wanted, chosen.room) / len(wanted)
    report = Report("zipf")
    report.add("the ideal cache: hits", ideal, "%")
    limits = {"MODEL_CACHE_SIZE": str(chosen.room)}
    size = measure(report, "by count", limits, wanted, right, ideal, chosen.clients)
    room = int(size * (chosen.room + 0.5))
    limits = {"MODEL_CACHE_SIZE": "1000", "COMPASS_MEMORY": str(SHARE * room)}
    measure(report, "by bytes", limits, wanted, right, ideal, chosen.clients)
    return report.finish()


def measure(
    report: Report, what: str, limits: dict[str, str], wanted: Sequence[int],
    right: Sequence[float], ideal: float, clients: int,
) -> float:  # fmt: skip
    """One run of all requests; the bytes of the largest model."""
    with tempfile.TemporaryDirectory(prefix="compass-bench-") as folder:
        announce(Path(folder) / "extra")
        path = f"{folder}/extra{os.pathsep}{ROOT}"
        with stack(PYTHONPATH=path, COMPASS_LOG_LEVEL="WARNING", **limits) as running:
            register(running, path, len(right))
            load = Load(running, wanted, right)
            load.run(clients)
            report.errors += load.errors
            (cache,) = client(running).get("/inference/status")["workers"]
            found = 100 * (1 - cache["loads"] / len(wanted))
            report.add(f"{what}: hits", found, "%")
            report.add(f"{what}: fewer than the ideal", ideal - found, "%", NEAR)
            report.add(f"{what}: bytes at the end", cache["bytes"] / 1e6, "MB")
            if cache["budget"] and what == "by bytes":
                limit = cache["budget"] / 1e6
                report.add(f"{what}: of a budget of", limit, "MB")
            report.add(f"{what}: loads that failed", cache["failures"], "", 0)
            report.add(f"{what}: answer p50", percentile(load.took, 0.5), "ms")
            report.add(f"{what}: answer p99", percentile(load.took, 0.99), "ms")
            return float(max(one["bytes"] for one in cache["models"]))


def sequence(count: int, requests: int) -> list[int]:
    """Models by rank, the most popular is 0."""
    weights = 1 / np.arange(1, count + 1) ** EXPONENT
    rng = np.random.default_rng(5)
    return [int(n) for n in rng.choice(count, requests, p=weights / weights.sum())]


def hits(wanted: Iterable[int], room: int) -> int:
    """Of the ideal cache, which drops the least recently asked."""
    held: OrderedDict[int, None] = OrderedDict()
    found = 0
    for one in wanted:
        found += one in held
        held[one] = None
        held.move_to_end(one)
        if len(held) > room:
            held.popitem(last=False)
    return found


class Load:
    """The requests in their order, each by the next client that is free."""

    def __init__(
        self, running: TrialStack, wanted: Sequence[int], right: Sequence[float]
    ) -> None:
        self._running, self._right = running, right
        self._left = iter(wanted)
        self._lock = threading.Lock()
        self._items = models.items("tiny", 1)
        self.took: list[float] = []
        self.errors: list[str] = []

    def run(self, clients: int) -> None:
        threads = [threading.Thread(target=self._client) for _ in range(clients)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

    def _client(self) -> None:
        ask = Client(self._running.url, self._running.key)
        while True:
            with self._lock:
                number = next(self._left, None)
            if number is None:
                return
            body = {"model": f"m{number}", "inputs": self._items}
            began = time.monotonic()
            status, answer = ask.ask("POST", "/inference/predict", body)
            self.took.append((time.monotonic() - began) * 1000)
            if status != 200:
                self.errors.append(f"m{number}: {status} {json.dumps(answer)[:200]}")
            elif abs(answer["outputs"][0]["y"] - self._right[number]) > 1e-5:
                self.errors.append(f"m{number}: {answer['outputs']}")


def register(running: TrialStack, path: str, count: int) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "bench.serving.many", str(count)]
    variables = {"COMPASS_DATA_DIR": str(running.data_dir), "PYTHONPATH": path}
    subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=True)


if __name__ == "__main__":
    sys.exit(main())
