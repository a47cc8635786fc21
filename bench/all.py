"""Every benchmark in turn, each in a process of its own, and one table of what they found.

python -m bench.all [NAME ...]. PostgreSQL is the machine's if one answers, else one from the wheel. Exit
status 1 if a budget was missed or a call failed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests import postgres

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 1200.0  # seconds for one of them
Words = Callable[[str], list[str]]
ALL: dict[str, Words] = {
    "idle": lambda server: [],
    "start": lambda server: ["--server", server],
    "submit": lambda server: [],
    "ledger": lambda server: ["--server", server],
    "table": lambda server: [],
    "table on PostgreSQL": lambda server: ["--database", server],
    "nodes": lambda server: [],
    "beats": lambda server: [server],
    "stops": lambda server: [],
    "overhead": lambda server: [],
    "batch": lambda server: [],
    "footprint": lambda server: [],
    "zipf": lambda server: [],
    # A million takes a quarter of an hour: python -m bench.flat
    "flat": lambda server: ["--requests", "200000"],
}


def main() -> int:
    wanted = sys.argv[1:] or list(ALL)
    server, missed = postgres.url(), []
    for name in wanted:
        began = time.monotonic()
        print(f"\n=== {name}", flush=True)
        command = [sys.executable, "-m", f"bench.{name.split()[0]}", *ALL[name](server)]
        done = subprocess.run(command, cwd=ROOT, timeout=PATIENCE, check=False)
        print(f"  after {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode:
            missed.append(name)
    print(f"\nMissed: {', '.join(missed)}" if missed else "\nEvery budget is met.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
