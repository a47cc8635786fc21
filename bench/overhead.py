"""What a training takes under Compass against the same loop as a bare script, in turns.

The times are those of the loop itself, from before its first step to after its last, with one
thread; checkpoints, reports and the supervisor's work are in it on Compass's side alone.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil

from bench import loop
from bench.report import Report, median
from bench.trial import WAIT, Client, client, stack, training

BUDGET = 1.02
ROOT = Path(__file__).resolve().parent.parent
TOOK = re.compile(r"loop took ([0-9.]+) cpu ([0-9.]+)")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--hidden", type=int, default=256)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    report = Report("overhead")
    bare: list[tuple[float, float]] = []
    under: list[tuple[float, float]] = []
    shares: list[float] = []
    with loop.known() as variables, stack(**variables) as running:
        ask = client(running)
        pid = next(
            one.pid for one in running.members() if "-n cpu@" in " ".join(one.cmdline())
        )
        once(ask, pid, 1, chosen.hidden)
        for _ in range(chosen.rounds):
            took, share = once(ask, pid, chosen.epochs, chosen.hidden)
            under.append(took)
            shares.append(share)
            bare.append(script(chosen.epochs, chosen.hidden))
            print(
                f"under Compass {took[0]:.2f} s, bare {bare[-1][0]:.2f} s", flush=True
            )
    (mine, my_cpu), (other, other_cpu) = (
        [median(one) for one in zip(*found, strict=True)] for found in (under, bare)
    )
    report.add("bare loop", other, "s")
    report.add("under Compass", mine, "s")
    report.add("the supervising worker's share of a core", median(shares), "%")
    # Steadier where others use the machine: what the loop itself had of a core.
    report.add("under Compass / bare, CPU time of the loop", my_cpu / other_cpu, "")
    report.add("under Compass / bare", mine / other, "", BUDGET)
    return report.finish()


def once(
    ask: Client, pid: int, epochs: int, hidden: int
) -> tuple[tuple[float, float], float]:
    """Seconds and CPU of the loop, and per cent of a core that its worker took meanwhile."""
    params = {"epochs": epochs, "hidden": hidden}
    before, began = cpu(pid), time.monotonic()
    body = training(recipe="loop", params=params, resources={"cpus": 1})
    task = ask.post("/training/tasks", body)
    path = f"/tasks/{task['id']}"
    state = ask.until(path, {"completed", "failed"}, WAIT * 5)
    share = 100 * (cpu(pid) - before) / (time.monotonic() - began)
    log = str(ask.get(f"{path}/logs"))
    found = TOOK.search(log)
    if state["state"] != "completed" or found is None:
        raise RuntimeError(f"{state['message']}\n{log[-2000:]}")
    return (float(found[1]), float(found[2])), share


def script(epochs: int, hidden: int) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.loop", str(epochs), str(hidden)],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        check=True,
        capture_output=True,
        text=True,
    )
    took, cpu_time = done.stdout.split()
    return float(took), float(cpu_time)


def cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
