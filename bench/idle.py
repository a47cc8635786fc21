"""What an idle one-machine stack costs: resident memory by process, and its share of a core.

Memory is the proportional set size: a page that n processes share counts 1/n in each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
MEMORY_BUDGET = 600.0  # MB
CPU_BUDGET = 2.0  # per cent of a core


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="A stack that runs already.")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    if options.data_dir:
        return report(int((options.data_dir / "lock").read_text()), options.seconds)
    with stack() as pid:
        return report(pid, options.seconds)


def report(pid: int, seconds: float) -> int:
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    before, began = [cpu(process) for process in tree], time.monotonic()
    time.sleep(seconds)
    spent = time.monotonic() - began
    memory_sum = cpu_sum = 0.0
    print(f"{'process':<22}{'MB':>8}{'% of a core':>14}")
    for process, start in zip(tree, before, strict=True):
        memory = process.memory_full_info().pss / 1e6
        share = 100 * (cpu(process) - start) / spent
        memory_sum, cpu_sum = memory_sum + memory, cpu_sum + share
        print(f"{label(process):<22}{memory:>8.1f}{share:>14.2f}")
    print(f"{'all':<22}{memory_sum:>8.1f}{cpu_sum:>14.2f}")
    print(f"{'budget':<22}{MEMORY_BUDGET:>8.1f}{CPU_BUDGET:>14.2f}")
    return 0 if memory_sum < MEMORY_BUDGET and cpu_sum < CPU_BUDGET else 1


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def label(process: psutil.Process) -> str:
    command = process.cmdline()
    for word in command:
        if "@" in word and "/" not in word:
            return word
    names = {"valkey-server": "broker", "granian": "web", "beat": "beat", "up": "stack"}
    for word in command:
        if name := names.get(Path(word).name):
            return name
    return " ".join(command[:3])[-20:]


@contextmanager
def stack() -> Iterator[int]:
    """A stack on a fresh directory, ready and left alone for a while."""
    with tempfile.TemporaryDirectory(prefix="compass-idle-") as folder:
        command = [sys.executable, "manage.py", "up", "--data-dir", folder]
        child = subprocess.Popen(
            command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL
        )
        try:
            while not (Path(folder) / "address").exists():
                if child.poll() is not None:
                    sys.exit("The stack did not start.")
                time.sleep(0.2)
            time.sleep(10)
            yield child.pid
        finally:
            child.terminate()
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
