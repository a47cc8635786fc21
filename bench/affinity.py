"""Quality and time of the `affinity` recipe on the official Davis test fold.

`python -m bench.affinity davis.csv.gz [mode ...]`: one CPU thread, each mode trained on all
training folds and judged once on the fold `test`. The published rows are as their authors, or
those who compared them, report them on the same fold.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # the warm launcher has it, too; cold it is 1.5 s of the first step

from registry import recipes
from registry.errors import Problem
from training.bundle import load_bundle
from training.context import Context
from training.recipes.affinity.recipe import RECIPE

PUBLISHED = {
    "KronRLS": (0.379, 0.871, 0.407),
    "DeepDTA": (0.261, 0.878, 0.630),
    "GraphDTA (GIN)": (0.229, 0.893, None),
    "MGraphDTA": (0.207, 0.900, 0.710),
    "DGraphDTA": (0.202, 0.904, 0.700),
    "MSGNN-DTA": (0.195, 0.906, 0.719),
}
BASELINES = {
    "mean": "mean of all",
    "mean_per_protein": "mean per protein",
    "mean_per_ligand": "mean per ligand",
    "additive": "ligand + protein",
    "kernel_kmers": "kernel, 3-mers",
    "kernel": "kernel, alignment",
}
# mode: MSE at most, CI at least, seconds of wall time at most
Figure = float | None
TARGETS: dict[str, tuple[Figure, Figure, float]] = {
    "smoke_test": (None, None, 10),
    "prototyping": (0.195, 0.905, 60),
    "validation": (0.188, 0.911, 180),
}


class Watch:
    """Notes when the first figures of the kernel model came."""

    def __init__(self) -> None:
        self.began, self.cpu = time.perf_counter(), time.process_time()
        self.first: Figure = None

    def see(self, event: Mapping[str, Any]) -> None:
        is_kernel = event["event"] == "metric" and any(
            name.startswith("kernel") for name in event["values"]
        )
        if is_kernel and self.first is None:
            self.first = time.perf_counter() - self.began


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a target is missed, 2 for wrong use."""
    torch.set_num_threads(1)
    if not arguments or not Path(arguments[0]).is_file():
        print("Say where the data is: python -m bench.affinity davis.csv.gz [mode ...]")
        return 2
    dataset, modes = Path(arguments[0]), arguments[1:] or list(TARGETS)
    row("on the Davis test fold", "MSE", "CI", "r_m^2", "wall s", "CPU s", "1st s")
    for name, figures in PUBLISHED.items():
        row(f"published: {name}", *figures)
    missed, shown = [], set[str]()
    for mode in modes:
        try:
            metrics, wall, cpu, first = train(mode, dataset)
        except Problem as problem:
            print(problem.detail)
            return 2
        for name, label in BASELINES.items():
            if (
                name in metrics["baselines"]
                and name not in shown
                and mode != "smoke_test"
            ):
                shown.add(name)
                row(label, *chief(metrics["baselines"][name]))
        row(f"affinity, {mode}", *chief(metrics), wall, cpu, first)
        missed += [f"{mode}: {text}" for text in misses(mode, metrics, wall)]
    for text in missed:
        print("missed:", text)
    return 1 if missed else 0


def train(mode: str, dataset: Path) -> tuple[dict[str, Any], float, float, Figure]:
    """Metrics, seconds of wall and CPU time, and until the kernel's first figures."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home)
        recipes.load(RECIPE.fit)  # its imports are made before a job is forked
        watch = Watch()
        context = Context(
            path / "checkpoints", path / "output", path / "scratch", report=watch.see
        )
        params = RECIPE.validate({"mode": mode, "split": "given"})
        recipes.load(RECIPE.fit)(params, dataset, context)
        wall, cpu = time.perf_counter() - watch.began, time.process_time() - watch.cpu
        return load_bundle(path / "output").metrics, wall, cpu, watch.first


def misses(mode: str, metrics: Mapping[str, float], wall: float) -> list[str]:
    most, least, seconds = TARGETS.get(mode, (None, None, float("inf")))
    found = []
    if most is not None and metrics["mse"] > most:
        found.append(f"MSE {metrics['mse']:.4f}, not {most} or less")
    if least is not None and metrics["ci"] < least:
        found.append(f"CI {metrics['ci']:.4f}, not {least} or more")
    if wall > seconds:
        found.append(f"{wall:.0f} s, not {seconds:g} or less")
    return found


def chief(figures: Mapping[str, float]) -> tuple[Figure, Figure, Figure]:
    return figures.get("mse"), figures.get("ci"), figures.get("rm2")


def row(name: str, *cells: str | Figure) -> None:
    texts = [
        one if isinstance(one, str) else "" if one is None else
        f"{one:.4f}" if place < 3 else f"{one:.1f}"
        for place, one in enumerate(cells)
    ]  # fmt: skip
    print(f"{name:28}" + "".join(f"{one:>9}" for one in texts), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
