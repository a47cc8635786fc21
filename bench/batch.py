"""A batch task over a file against an eager torch loop over the same file, in turns.

    python -m bench.batch [--rounds 5] [--tiny 100000] [--dta 10000]

The loop is a process of its own with one thread: it reads the lines, decodes them with orjson, encodes
them as the model's predictor does, runs eager torch in batches of the size that serves it best of
those tried, and keeps the numbers. The task's time is that of its attempt, from its start to its end, with
its results on the disk; what lies between the request and the start is a row of its own. One inference worker
computes, each pass with one thread; of a slow network as many passes as cores are free, so the loop may have all
cores for torch as well (--threads). Every answer is compared to the loop's to 1e-5.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import psutil

from bench.report import Report, median
from bench.serving import models
from bench.serving.recipes import announce
from bench.trial import Client, client, stack
from compass.trial import TrialStack
from inference.standby import TITLE

ROOT = Path(__file__).resolve().parent.parent
BUDGETS = {"tiny": 0.9, "dta": 1.0}  # of the loop's speed, at least
SIZES = {"tiny": (32, 64, 256), "dta": (4, 8, 16)}  # rows of a pass of the loop
TRIED = {"tiny": 20_000, "dta": 200}  # items on which the loop's size is chosen
WAIT = 1200.0  # seconds
LOOK_EVERY = 0.5  # seconds; each look costs the stack some milliseconds


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tiny", type=int, default=100_000)
    options.add_argument("--dta", type=int, default=10_000)
    options.add_argument("--threads", type=int, default=1, help="of the loop's torch")
    options.add_argument("--loop", nargs=3, metavar=("MODEL", "FILE", "SIZES"))
    chosen = options.parse_args()
    if chosen.loop:
        return loop(*chosen.loop)
    report = Report("batch")
    with tempfile.TemporaryDirectory(prefix="compass-bench-") as folder:
        extra = Path(folder) / "extra"
        announce(extra)
        path = os.pathsep.join(
            filter(None, [str(extra), str(ROOT), os.environ.get("PYTHONPATH")])
        )
        with stack(PYTHONPATH=path, COMPASS_LOG_LEVEL="WARNING") as running:
            register(running, path)
            ask = client(running)
            for name, count in (("tiny", chosen.tiny), ("dta", chosen.dta)):
                if count:
                    file = Path(folder) / f"{name}.jsonl"
                    write(file, name, count)
                    counts = chosen.rounds, chosen.threads
                    measure(report, running, ask, name, file, *counts)
    return report.finish()


def measure(
    report: Report,
    running: TrialStack,
    ask: Client,
    name: str,
    file: Path,
    rounds: int,
    threads: int,
) -> None:
    dataset = upload(running, ask, file)
    once(
        running, ask, name, upload(running, ask, part(file, TRIED[name]))
    )  # it is loaded
    loops: list[dict[str, Any]] = []
    tasks: list[dict[str, float]] = []
    for _ in range(rounds):
        command = [sys.executable, "-m", "bench.batch", "--loop", name, str(file)]
        command.append(",".join(map(str, SIZES[name])))
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=True, capture_output=True
        )
        loops.append(orjson.loads(done.stdout))
        took, found = once(running, ask, name, dataset)
        tasks.append(took)
        compare(report, name, loops[-1]["outputs"], found)
        print(
            f"{name}: loop {loops[-1]['wall']:.2f} s, task {took['wall']:.2f} s",
            flush=True,
        )
    for what, unit in (("wall", "s"), ("cpu", "s")):
        report.add(
            f"{name}: the loop, {what}", median([one[what] for one in loops]), unit
        )
        report.add(
            f"{name}: the task, {what}", median([one[what] for one in tasks]), unit
        )
    report.add(
        f"{name}: from the request to the start",
        median([one["before"] for one in tasks]),
        "s",
    )
    report.add(
        f"{name}: rows of a pass of the loop",
        median([one["size"] for one in loops]),
        "",
    )
    pairs = list(zip(loops, tasks, strict=True))
    ratio = median([one["cpu"] / other["cpu"] for one, other in pairs])
    report.add(f"{name}: the loop's CPU time / the task's", ratio, "")
    ratio = median([one["wall"] / other["wall"] for one, other in pairs])
    report.add(
        f"{name}: speed of the task / of the loop", ratio, "", BUDGETS[name], more=True
    )


def once(
    running: TrialStack, ask: Client, name: str, dataset: str
) -> tuple[dict[str, float], list[float]]:
    """What one task took, and its outputs."""
    before = worker_cpu(running)
    body = {"model": name, "dataset": dataset}
    task = ask.post("/inference/batch", body)
    path = f"/tasks/{task['id']}"
    while (task := ask.get(path))["state"] not in {"completed", "failed"}:
        time.sleep(LOOK_EVERY)
    if task["state"] != "completed":
        raise RuntimeError(f"{task['message']}\n{ask.get(f'{path}/logs')}")
    cpu = worker_cpu(running) - before
    made, began, ended = (
        datetime.datetime.fromisoformat(task[key])
        for key in ("created_at", "started_at", "finished_at")
    )
    file = (
        running.data_dir
        / "files"
        / "tasks"
        / str(task["id"])
        / "files"
        / "results.jsonl"
    )
    rows = [orjson.loads(line) for line in file.open("rb")]
    assert [row["row"] for row in rows] == list(range(1, len(rows) + 1))
    took = {
        "wall": (ended - began).total_seconds(),
        "before": (began - made).total_seconds(),
        "cpu": cpu,
    }
    return took, [row["output"]["y"] for row in rows]


def compare(report: Report, name: str, wanted: list[float], found: list[float]) -> None:
    if len(wanted) != len(found):
        report.errors.append(f"{name}: {len(found)} answers to {len(wanted)} items")
    for row, (one, other) in enumerate(zip(wanted, found, strict=False), 1):
        if abs(one - other) > 1e-5 * max(1.0, abs(one)):
            report.errors.append(f"{name}, row {row}: {other}, not {one}")


def loop(name: str, file: str, sizes: str) -> int:
    """The bare loop, at the best of the sizes; prints what it took, as JSON."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    network = models.make(name)
    with torch.inference_mode():
        speeds = {}
        for size in [*map(int, sizes.split(","))] * 2:
            speeds[size] = timed(network, name, file, size, TRIED[name])["wall"]
        best = min(speeds, key=speeds.__getitem__)
        found = timed(network, name, file, best, sys.maxsize)
    sys.stdout.buffer.write(orjson.dumps({**found, "size": best}))
    return 0


def timed(network: Any, name: str, file: str, size: int, most: int) -> dict[str, Any]:
    began, had = time.perf_counter(), time.process_time()
    outputs: list[float] = []
    with open(file, "rb") as lines:  # noqa: PTH123
        while len(outputs) < most:
            some = [
                orjson.loads(line) for _, line in zip(range(size), lines, strict=False)
            ]
            if not some:
                break
            rows = models.stack([models.encode(name, item) for item in some])
            outputs += network(*rows).squeeze(1).tolist()
    wall, cpu = time.perf_counter() - began, time.process_time() - had
    return {"wall": wall, "cpu": cpu, "outputs": outputs}


def write(file: Path, name: str, count: int) -> None:
    with file.open("wb") as out:
        for at in range(0, count, 1000):
            some = models.items(name, min(1000, count - at), seed=at)
            out.write(b"".join(orjson.dumps(one) + b"\n" for one in some))


def part(file: Path, count: int) -> Path:
    """The first lines of the file, as a file of their own."""
    target = file.with_name(f"part-{file.name}")
    with file.open("rb") as lines, target.open("wb") as out:
        out.writelines(line for _, line in zip(range(count), lines, strict=False))
    return target


def upload(running: TrialStack, ask: Client, file: Path) -> str:
    import httpx

    headers = {
        "Authorization": f"Bearer {running.key}",
        "Content-Disposition": f'attachment; filename="{file.name}"',
        "Content-Length": str(file.stat().st_size),
    }
    with file.open("rb") as content:
        answer = httpx.post(
            f"{running.url}/api/v1/uploads",
            content=content,
            headers=headers,
            timeout=600,
        )
    path = f"/uploads/{answer.raise_for_status().json()['id']}"
    found = ask.until(path, {"sealed", "failed"}, WAIT)
    if found["state"] != "sealed":
        raise RuntimeError(json.dumps(found))
    return str(found["id"])


def register(running: TrialStack, path: str) -> None:
    environment = {
        **os.environ, "COMPASS_DATA_DIR": str(running.data_dir), "PYTHONPATH": path,
    }  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-m", "bench.serving.register"]
    subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL
    )


def worker_cpu(running: TrialStack) -> float:
    """Seconds of processor time that the inference worker and the hands of its batches have had."""
    total = 0.0
    for one in running.members():
        try:
            command = " ".join(one.cmdline())
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        if "inference@" in command:
            total += times.user + times.system
        elif command.startswith(TITLE):
            total += times.user + times.system
            total += times.children_user + times.children_system
    return total


if __name__ == "__main__":
    sys.exit(main())
