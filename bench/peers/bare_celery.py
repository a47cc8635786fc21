"""Celery alone: a task that does nothing, with Compass's own worker settings.

Threads, no prefetch, early acknowledgement, no result, no events; `worker` starts one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from celery import Celery

from bench.peers.marks import mark, measure

app = Celery("bare", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=os.environ.get("BENCH_PREFETCH", "") == "",
    task_default_queue="bare",
    broker_connection_retry_on_startup=True,
)


@app.task(name="bare.mark")
def leave_mark(path: str) -> None:
    mark(path)


def main(count: int, alone: int, threads: int) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "bench.peers.bare_celery",
        "worker",
    ]
    command += ["--pool", "threads", "--concurrency", str(threads), "-l", "ERROR"]
    command += ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        with tempfile.TemporaryDirectory(prefix="compass-bench-") as folder:
            send = lambda path: leave_mark.apply_async([path])  # noqa: E731
            return measure(send, Path(folder), count, alone)
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    print(json.dumps(main(*(int(one) for one in sys.argv[1:4]))))
