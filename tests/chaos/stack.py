"""A real stack under test, kept alive from outside as systemd would, and its processes by name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.chaos.journal import VARIABLE
from tests.chaos.services import Services

ROOT = Path(__file__).resolve().parent.parent.parent
INSTALLED = Path(__file__).resolve().parent / "installed"
NODES = ("one", "two")
CPUS = 3  # of each node; most steps sleep
READY_WITHIN = 120.0  # seconds
CELERY = [sys.executable, "-m", "celery", "-A", "compass"]


class NotReady(Exception):
    """The stack did not come up."""


class Stack:
    """`manage.py up`, and beside it a second node, a second control worker and a second beat."""

    def __init__(self, home: Path, services: Services, *, port: int) -> None:
        self.home, self.services, self.port = home, services, port
        self.data, self.journal = services.data, home / "journal"
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("COMPASS_", "DJANGO_"))
            },
            **services.environment,
            "PYTHONPATH": f"{INSTALLED}{os.pathsep}{ROOT}",
            "HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "COMPASS_DATA_DIR": str(self.data),
            "COMPASS_CPUS": str(CPUS),
            "COMPASS_WEB_THREADS": "8",
            "COMPASS_INFERENCE_THREADS": "1",
            VARIABLE: str(self.journal),
        }
        self._commands: dict[str, tuple[list[str], str]] = {
            "stack": (
                [sys.executable, "manage.py", "up", "--port", str(port)],
                NODES[0],
            ),
            "cpu-two": ([*CELERY, "worker", *_worker("cpu", f"cpu.{NODES[1]}", 5)], NODES[1]),
            "control-two": ([*CELERY, "worker", *_worker("control", "control", 2)], NODES[1]),
            "beat-two": (
                [*CELERY, "beat", "-s", str(home / "schedule-two"), "--pidfile="],
                NODES[1],
            ),
        }  # fmt: skip
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.restarts = 0
        self._held: set[str] = set()
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    # Life

    def start(self, *, second: bool = True) -> None:
        """Start all and wait until it is ready. Raises NotReady."""
        self._start("stack")
        address = self.data / "address"
        self.until(address.exists, "the stack has an address", READY_WITHIN)
        # The port asked for may be somebody else's.
        self.port = int(address.read_text().rpartition(":")[2])
        self.until(self.is_ready, "the stack is ready", READY_WITHIN)
        if second:
            for name in self._commands.keys() - {"stack"}:
                self._start(name)
            self.until(lambda: len(self.nodes_up("cpu")) == 2, "both nodes are up", 60)
        self._keeper.start()

    def close(self) -> list[str]:
        """Stop all in good order; the names of what did not end in a minute and was killed."""
        self._closing.set()
        if self._keeper.is_alive():
            self._keeper.join(10)
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deaf = []
        for name, process in self.processes.items():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                deaf.append(name)
                process.kill()
                process.wait(10)
        return deaf

    def hold_down(self, name: str, seconds: float) -> None:
        """Kill every process of that name for so long, as fast as it comes back."""
        self._held.add(name)
        deadline = time.monotonic() + seconds
        try:
            while True:
                for process in self.find(name):
                    with contextlib.suppress(psutil.Error):
                        process.kill()
                if time.monotonic() >= deadline:
                    return
                time.sleep(0.05)
        finally:
            self._held.discard(name)

    def _start(self, name: str) -> None:
        command, node = self._commands[name]
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**self.environment, "COMPASS_NODE_NAME": node},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _keep(self) -> None:
        while not self._closing.wait(0.3):
            self.services.keep()
            for name, process in list(self.processes.items()):
                if process.poll() is not None and name not in self._held:
                    self.restarts += 1
                    self._start(name)

    # Looks

    def find(self, name: str) -> list[psutil.Process]:
        """The living processes of that name, by what they are."""
        if name in self.processes:
            return _living([self.processes[name].pid])
        if name == "broker" and self.services.broker_pid is not None:
            return _living([self.services.broker_pid])
        found = []
        for one in self.descendants():
            with contextlib.suppress(psutil.Error):
                if _is(name, one):
                    found.append(one)
        return found

    def descendants(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for process in list(self.processes.values()):
            with contextlib.suppress(psutil.Error):
                found += psutil.Process(process.pid).children(recursive=True)
        return found

    def leftovers(self, patience: float = 10.0) -> list[str]:
        """The processes of this machine that carry the journal's or the data's path; those
        that are about to end may do so."""
        deadline = time.monotonic() + patience
        while (found := self._carriers()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _carriers(self) -> list[str]:
        own, mark = os.getpid(), str(self.home)
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                told = " ".join([*one.cmdline(), *one.environ().values()])
                if one.pid != own and mark in told and one.status() != "zombie":
                    found.append(f"{one.pid} {' '.join(one.cmdline())[:80]}")
        return found

    def is_ready(self) -> bool:
        """True if it says so; raises NotReady if it ended instead."""
        try:
            return self.ask("GET", "/health/ready", wait=0).status_code == 200
        except httpx.HTTPError:
            return False

    def nodes_up(self, lane: str) -> list[str]:
        answer = self.ask("GET", "/api/v1/nodes")
        if answer.status_code != 200:
            return []
        rows = answer.json()["results"]
        return [
            row["name"] for row in rows if row["state"] == "up" and row["lane"] == lane
        ]

    def until(self, done: Callable[[], Any], what: str, seconds: float) -> Any:
        """Wait for the outside world. Raises NotReady."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := done():
                return value
            time.sleep(0.1)
        raise NotReady(f"not within {seconds:g} s: {what}\n{self.last_words()}")

    def last_words(self) -> str:
        log = self.home / "stack.log"
        return log.read_text(errors="replace")[-1500:] if log.exists() else ""

    # HTTP

    def ask(
        self, method: str, path: str, *, wait: float = 30, **options: Any
    ) -> httpx.Response:
        """One request, by the key of the installation."""
        key = self.data / "key"
        secret = key.read_text().strip() if key.exists() else ""
        headers = {"Authorization": f"Bearer {secret}", **options.pop("headers", {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(
            method, url, headers=headers, timeout=max(wait, 5), **options
        )


def _worker(lane: str, queue: str, threads: int) -> list[str]:
    words = ["-n", f"{lane}@{NODES[1]}", "-Q", queue, "--pool", "threads"]
    return [
        *words,
        "-c",
        str(threads),
        "--without-mingle",
        "--without-gossip",
        "-l",
        "INFO",
    ]


def _living(pids: list[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            one = psutil.Process(pid)
            if one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def _is(name: str, one: psutil.Process) -> bool:
    told = " ".join(one.cmdline())
    if name in ("launcher", "job"):
        if "forkserver" not in told:
            return False
        parent = one.parent()
        is_job = parent is not None and "forkserver" in " ".join(parent.cmdline())
        return is_job is (name == "job")
    words = {
        "cpu": f" worker -n cpu@{NODES[0]}",
        "control": f" worker -n control@{NODES[0]}",
        "inference": f" worker -n inference@{NODES[0]}",
        "beat": "compass beat",
        "web": "granian",
        "broker": "valkey-server",
    }
    return words[name] in told
