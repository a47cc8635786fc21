"""What an idle one-machine stack costs: resident memory by process, and its share of a core.

Memory is the proportional set size: a page that n processes share counts 1/n in each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import psutil

from compass.trial import TrialStack

MEMORY_BUDGET = 600.0  # MB
CPU_BUDGET = 2.0  # per cent of a core
SETTLING = 10.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="A stack that runs already.")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    if options.data_dir:
        return report(int((options.data_dir / "lock").read_text()), options.seconds)
    with (
        tempfile.TemporaryDirectory(prefix="compass-idle-") as folder,
        TrialStack(Path(folder)) as stack,
    ):
        time.sleep(SETTLING)
        return report(stack.pid, options.seconds)


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
    names = {
        "valkey-server": "broker",
        "granian": "web",
        "compass.front": "front",
        "beat": "beat",
        "up": "stack",
    }
    for word in command:
        if name := names.get(Path(word).name):
            return name
    return " ".join(command[:3])[-20:]


if __name__ == "__main__":
    sys.exit(main())
