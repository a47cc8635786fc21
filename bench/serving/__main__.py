"""Compass beside its peers in interleaved rounds; every answer is compared to bare torch.

    python -m bench.serving [--peers PYTHON] [--rounds 3] [--seconds 4] [--clients 1 8 64]

`--peers` is the Python of an environment that has the peers' own packages (fastapi, uvicorn, torch,
numpy, safetensors); without it Compass and an empty Django view are measured alone. Only
ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.serving import models
from bench.serving.load import Load
from bench.serving.recipes import announce

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 32
PREDICT = "/api/v1/inference/predict"


@dataclass
class Server:
    """A running peer; `words` pick the processes that are counted out of its tree."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    path: str = "/predict"
    headers: dict[str, str] = field(default_factory=dict)
    is_empty: bool = False
    words: tuple[str, ...] = ()

    def tree(self) -> list[psutil.Process]:
        top = psutil.Process(self.process.pid)
        found = [top, *top.children(recursive=True)]
        return [p for p in found if not self.words or _has(p, self.words)]

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return sum(sum(one.cpu_times()[:2]) for one in self.tree())

    def memory(self) -> float:
        """MB, shared pages counted once."""
        return sum(one.memory_full_info().pss for one in self.tree()) / 1e6


def _has(process: psutil.Process, words: tuple[str, ...]) -> bool:
    command = " ".join(process.cmdline())
    return any(word in command for word in words)


@contextmanager
def started(command: list[str], **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    log = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=log, stderr=log,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def wait_for(port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"nobody listens at {port}")


@contextmanager
def compass(engine: str = "") -> Iterator[Server]:
    """A stack with both models, on the engine of that name or on the fastest."""
    with tempfile.TemporaryDirectory() as folder:
        home, extra = Path(folder) / "data", Path(folder) / "extra"
        announce(extra)
        variables = {
            "PYTHONPATH": f"{extra}:{ROOT}", "COMPASS_DATA_DIR": str(home),
            "COMPASS_LOG_LEVEL": "WARNING",
        }  # fmt: skip
        command = [sys.executable, "manage.py", "up", "--port", str(free_port())]
        with started(command, **variables) as process:
            address = home / "address"
            while not address.exists():
                assert process.poll() is None, "the stack did not start"
                time.sleep(0.1)
            subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "bench.serving.register", *engine.split()],
                cwd=ROOT, env={**os.environ, **variables}, check=True,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            key = (home / "key").read_text().strip()
            port = int(address.read_text().rsplit(":", 1)[1])
            yield Server(
                "compass", process, port, PREDICT, {"Authorization": f"Bearer {key}"},
                words=("compass.front", "inference@"),
            )  # fmt: skip


@contextmanager
def fastapi(python: str, workers: int) -> Iterator[Server]:
    port = free_port()
    command = [python, "-m", "uvicorn", "bench.serving.fastapi_app:app"]
    command += ["--port", str(port), "--workers", str(workers), "--no-access-log"]
    with started(command, PYTHONPATH=str(ROOT)) as process:
        wait_for(port)
        yield Server(f"fastapi x{workers}", process, port)


@contextmanager
def empty() -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--no-ws"]
    command += ["--port", str(port), "--http", "1", "--blocking-threads", "16"]
    command += ["--log-level", "warning", "bench.serving.empty:application"]
    with started(command, PYTHONPATH=str(ROOT)) as process:
        wait_for(port)
        yield Server("empty view", process, port, is_empty=True)


def measure(server: Server, model: str, clients: int, seconds: float) -> dict[str, Any]:
    some = models.items(model, ITEMS)
    bodies = [json.dumps({"model": model, "inputs": [one]}).encode() for one in some]
    wanted = None if server.is_empty else models.wanted(model, some)
    load = Load(server.port, server.path, server.headers, bodies, wanted, seconds)
    before, began = server.cpu(), time.monotonic()
    load.run(clients)
    spent = time.monotonic() - began
    if load.errors:
        raise SystemExit(f"{server.name}: {len(load.errors)} wrong: {load.errors[0]}")
    times = sorted(load.times)
    return {
        "rate": len(times) / spent,
        "p50": 1000 * times[len(times) // 2],
        "p99": 1000 * times[int(len(times) * 0.99)],
        "cpu": 1000 * (server.cpu() - before) / len(times),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peers", help="the Python that has the peers' packages")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=4.0)
    arguments.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    arguments.add_argument("--models", nargs="+", default=list(models.MODULES))
    options = arguments.parse_args()
    with ExitStack() as stack:
        servers = [stack.enter_context(compass()), stack.enter_context(empty())]
        for workers in (1, 2) if options.peers else ():
            servers.append(stack.enter_context(fastapi(options.peers, workers)))
        for server in servers:
            for model in options.models:
                measure(server, model, 2, 1.0)  # loaded and warm
        found: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
        for _ in range(options.rounds):
            for model in options.models:
                for clients in options.clients:
                    for server in servers:
                        if server.is_empty and model != options.models[0]:
                            continue
                        one = measure(server, model, clients, options.seconds)
                        found.setdefault((model, clients, server.name), []).append(one)
        print(
            f"{'':26}{'a second':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'ratio':>7}"
        )
        for (model, clients, name), rounds in found.items():
            middle = {k: statistics.median(one[k] for one in rounds) for k in rounds[0]}
            best = max(
                statistics.median(one["rate"] for one in other)
                for (m, c, peer), other in found.items()
                if (m, c) == (model, clients)
                and (peer not in ("compass", "empty view") or not options.peers)
            )
            label = f"{model}, {clients}, {name}"
            print(
                f"{label:26}{middle['rate']:10.0f}{middle['p50']:9.2f}"
                f"{middle['p99']:9.2f}{middle['cpu']:9.3f}{middle['rate'] / best:7.2f}"
            )
        for server in servers:
            print(f"{server.name}: {server.memory():.0f} MB")
            for one in server.tree():
                pss = one.memory_full_info().pss / 1e6
                print(f"    {pss:6.0f} MB  {' '.join(one.cmdline())[-60:]}")


if __name__ == "__main__":
    main()
