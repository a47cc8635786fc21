"""What a training takes under Compass against the same loop as a script of its own, in turns.

The times are those of the loop itself, from before its first step to after its last, with one
thread. Beside it the loop that one would write without Compass's Trainer: it keeps no checkpoints and
reports nothing, and with steps as short as these that shows.
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
LOOK_EVERY = 0.5  # seconds, as a page that shows it does; each look costs the machine some milliseconds
ROOT = Path(__file__).resolve().parent.parent
TOOK = re.compile(r"loop took ([0-9.]+) cpu ([0-9.]+)")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--hidden", type=int, default=256)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    report = Report("overhead")
    found: dict[str, list[tuple[float, float]]] = {"under": [], "alone": [], "bare": []}
    shares: list[float] = []
    with loop.known() as variables, stack(**variables) as running:
        ask = client(running)
        pid = next(
            one.pid for one in running.members() if "-n cpu@" in " ".join(one.cmdline())
        )
        once(ask, pid, 1, chosen.hidden)
        for _ in range(chosen.rounds):
            took, share = once(ask, pid, chosen.epochs, chosen.hidden)
            found["under"].append(took)
            shares.append(share)
            for how in ("alone", "bare"):
                found[how].append(script(how, chosen.epochs, chosen.hidden))
            print(
                {how: f"{took[-1][0]:.2f} s" for how, took in found.items()}, flush=True
            )
    wall = {how: [one for one, _ in took] for how, took in found.items()}
    cpu_time = {how: [one for _, one in took] for how, took in found.items()}
    report.add("under Compass", median(wall["under"]), "s")
    report.add("the same as a script", median(wall["alone"]), "s")
    report.add("a bare loop", median(wall["bare"]), "s")
    report.add("the supervising worker's share of a core", median(shares), "%")
    # By turns: a machine that others use is faster at one time than at another.
    for what, one, other, budget in (
        (
            "CPU time under Compass / as a script",
            cpu_time["under"],
            cpu_time["alone"],
            None,
        ),
        ("under Compass / a bare loop", wall["under"], wall["bare"], None),
        ("under Compass / as a script", wall["under"], wall["alone"], BUDGET),
    ):
        ratios = [a / b for a, b in zip(one, other, strict=True)]
        report.add(what, median(ratios), "", budget)
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
    ends = {"completed", "failed"}
    state = ask.until(path, ends, WAIT * 5, pause=LOOK_EVERY)
    share = 100 * (cpu(pid) - before) / (time.monotonic() - began)
    log = str(ask.get(f"{path}/logs"))
    found = TOOK.search(log)
    if state["state"] != "completed" or found is None:
        raise RuntimeError(f"{state['message']}\n{log[-2000:]}")
    return (float(found[1]), float(found[2])), share


def script(how: str, epochs: int, hidden: int) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.loop", how, str(epochs), str(hidden)],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        check=True,
        capture_output=True,
        text=True,
    )
    took = TOOK.search(done.stdout)
    assert took is not None, done.stdout
    return float(took[1]), float(took[2])


def cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
