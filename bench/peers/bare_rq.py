"""RQ with its defaults (a fork for each job), or with SimpleWorker, which does not fork."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from redis import Redis
from rq import Queue

from bench.peers.marks import mark, measure


def main(
    count: int, alone: int, workers: int, kind: str, socket: str
) -> dict[str, Any]:
    command = [sys.executable, "-m", "rq.cli", "worker", "bare", "--quiet"]
    command += ["--url", f"unix://{socket}", "--worker-class", kind]
    started = [subprocess.Popen(command) for _ in range(workers)]
    queue = Queue("bare", connection=Redis(unix_socket_path=socket))
    try:
        with tempfile.TemporaryDirectory(prefix="compass-bench-") as folder:
            send = lambda path: queue.enqueue(mark, path)  # noqa: E731
            return measure(send, Path(folder), count, alone)
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait()


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[1:4]]
    print(json.dumps(main(*numbers, *sys.argv[4:6])))  # type: ignore[arg-type]
