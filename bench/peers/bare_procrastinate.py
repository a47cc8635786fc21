"""procrastinate with its defaults on PostgreSQL: one worker process, some tasks at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import procrastinate

from bench.peers.marks import mark, measure

app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector())


def make(url: str, *, is_async: bool = False) -> procrastinate.App:
    kind = (
        procrastinate.PsycopgConnector
        if is_async
        else procrastinate.SyncPsycopgConnector
    )
    made = procrastinate.App(connector=kind(conninfo=url))
    made.task(name="bare.mark", queue="bare")(mark)
    return made


def main(count: int, alone: int, threads: int, url: str) -> dict[str, Any]:
    made = make(url)
    with made.open():
        made.schema_manager.apply_schema()
        worker = subprocess.Popen(
            [sys.executable, __file__, "worker", str(threads), url],
            stderr=subprocess.DEVNULL,
        )
        send = made.tasks["bare.mark"].defer
        try:
            with tempfile.TemporaryDirectory(prefix="compass-bench-") as folder:
                return measure(lambda path: send(path=path), Path(folder), count, alone)
        finally:
            worker.terminate()
            worker.wait()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        with make(sys.argv[3]).open():
            pass
        make(sys.argv[3], is_async=True).run_worker(
            queues=["bare"], concurrency=int(sys.argv[2])
        )
    else:
        numbers = [int(one) for one in sys.argv[1:4]]
        print(json.dumps(main(*numbers, sys.argv[4])))  # type: ignore[arg-type]
