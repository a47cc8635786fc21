"""The demonstration: real data in, a trained model out, predictions beside measurements."""

from __future__ import annotations

import csv
import gzip
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from compass.client import Compass, Task
from compass.trial import ROOT

DATASET = ROOT / "training" / "datasets" / "bindingdb_sample.csv.gz"
NAME = "bindingdb_sample"
MODE = "prototyping"
LEVELS = (5.0, 6.0, 7.0, 8.0, 9.0, 10.0)  # pKd
# Published, official test fold of the Davis set: CI, MSE, r_m^2 (docs/science.md).
PUBLISHED = {
    "KronRLS": (0.871, 0.379, 0.407),
    "DeepDTA": (0.878, 0.261, 0.630),
    "GraphDTA (GIN)": (0.893, 0.229, None),
    "MGraphDTA": (0.900, 0.207, 0.710),
    "DGraphDTA": (0.904, 0.202, 0.700),
    "MSGNN-DTA": (0.906, 0.195, 0.719),
}
BASELINES = {
    "mean_per_protein": "trivial: mean per protein",
    "kernel": "kernel model alone",
}


class DemoFailed(Exception):
    """Something did not come out as it must; the sentence says what."""


class Demo:
    """Each step as one method, against one running Compass."""

    def __init__(self, client: Compass, console: Console) -> None:
        self.client, self.console = client, console

    def run(self) -> None:
        """All steps. Raises DemoFailed, client.CompassError and TimeoutError."""
        task = self.train(self.upload())
        self.show_metrics(task)
        model = f"{task['result']['model']}:{task['result']['version']}"
        self.predict(model)
        self.batch(model)

    def upload(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{NAME}.csv"
            with gzip.open(DATASET, "rb") as packed, path.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
            upload = self.client.upload(path, name=NAME)
        self.say(
            f"Uploaded {upload['filename']}: {upload['rows']:,} measured pairs, "
            f"{upload['size']:,} bytes, sha256 {upload['sha256'][:12]}"
        )
        return upload

    def train(self, upload: dict[str, Any]) -> Task:
        began = time.monotonic()
        task = self.client.train(
            "affinity",
            upload,
            {"mode": MODE},
            lane="cpu",
            name="Demonstration",
            model_name="affinity",
        )
        self.say(f"Queued task {task.id}: recipe affinity, mode {MODE}, lane cpu")
        with watched(self.console) as show:
            task.wait(timeout=600, on_look=show)
        if task.state != "completed":
            raise DemoFailed(
                f"Task {task.id} is {task.state} ({task['reason']}): "
                f"{task['message']} {task['hint']}".strip()
            )
        result = task["result"]
        self.say(
            f"Trained in {time.monotonic() - began:.0f} s and registered as "
            f"{result['model']}:{result['version']}, digest {result['digest'][:12]}"
        )
        return task

    def show_metrics(self, task: Task) -> None:
        metrics = task["result"]["metrics"]
        table = Table(title="On the test fold, which the training never saw")
        for name in ("", "MSE", "CI", "r_m²", "Pearson"):
            table.add_column(name, justify="left" if not name else "right")
        for key, label in BASELINES.items():
            if row := metrics.get("baselines", {}).get(key):
                table.add_row(label, *_figures(row))
        table.add_row("this model", *_figures(metrics), style="bold")
        self.console.print(table)
        table = Table(title="Published, on another set (Davis, official test fold)")
        for name in ("method", "MSE", "CI", "r_m²"):
            table.add_column(name, justify="left" if name == "method" else "right")
        for method, (ci, mse, rm2) in PUBLISHED.items():
            table.add_row(method, _figure(mse), _figure(ci), _figure(rm2))
        self.console.print(table)
        self.say("`make bench-affinity DAVIS=path` compares on that very set.")
        trivial = metrics.get("baselines", {}).get("mean_per_protein", {})
        if not metrics["mse"] < trivial.get("mse", float("inf")):
            raise DemoFailed("The model is no better than the mean per protein.")

    def predict(self, model: str) -> None:
        pairs = measured_pairs()
        inputs = [{k: pair[k] for k in ("smiles", "sequence")} for pair in pairs]
        loading = self.client.predict(inputs, model)["took"]
        answer = self.client.predict(inputs, model)
        table = Table(title=f"{model} asked for pairs of the test fold (pKd)")
        for name in ("ligand", "protein", "measured", "predicted", "uncertainty"):
            is_text = name in ("ligand", "protein")
            table.add_column(name, justify="left" if is_text else "right")
        for pair, output in zip(pairs, answer["outputs"], strict=True):
            if "error" in output:
                raise DemoFailed(f"A pair was refused: {output['error']['detail']}")
            table.add_row(
                pair["ligand_id"],
                pair["protein_id"],
                f"{float(pair['affinity']):.2f}",
                f"{output['affinity']:.2f}",
                f"± {output['uncertainty']:.2f}",
            )
        self.console.print(table)
        self.say(
            f"Answered {len(pairs)} pairs in {loading:.1f} s with loading the model, "
            f"then in {1000 * answer['took']:.0f} ms"
        )

    def batch(self, model: str) -> None:
        pairs = [
            {"protein": pair["sequence"], "ligand": pair["smiles"]}
            for pair in measured_pairs()
        ]
        bad = {"protein": pairs[0]["protein"], "ligand": "C1CC(N"}
        answer = self.client.batch(
            protein_ligand_pairs=[*pairs[:2], bad, *pairs[2:]], model=model, wait=60
        )
        if "results" not in answer:
            raise DemoFailed(f"The batch did not end in time (task {answer['id']}).")
        failed = [one for one in answer["results"] if not one["success"]]
        if answer["success_count"] != len(pairs) or len(failed) != 1:
            raise DemoFailed("The bad item of the batch hurt its neighbours.")
        self.say(
            f"Batch of {answer['total_count']} with one bad item on purpose: "
            f"{answer['success_count']} answered, {answer['failed_count']} refused: "
            f"{failed[0]['ligand']!r}: {failed[0]['error']['detail']}"
        )

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watched(console: Console) -> Iterator[Any]:
    """A function that shows a task: a live bar on a terminal, else a line when it moved."""
    if not console.is_terminal:
        last = [""]

        def line(task: Task) -> None:
            tenth = int(10 * (task["progress"].get("fraction") or 0))
            text = f"  {task.state} {10 * tenth:3d} %"
            if text != last[0]:
                last[0] = text
                console.print(f"{text} {_told(task)}", markup=False, highlight=False)

        yield line
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=console) as bar:
        row = bar.add_task("pending", total=1.0, told="")
        yield lambda task: bar.update(
            row,
            description=task["progress"].get("stage") or task.state,
            completed=task["progress"].get("fraction") or 0.0,
            told=_told(task),
        )


def measured_pairs() -> list[dict[str, str]]:
    """Pairs of the test fold that were measured nearest to each of some pKd."""
    with gzip.open(DATASET, "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] == "test"]
    return [
        min(rows, key=lambda row: abs(float(row["affinity"]) - level))
        for level in LEVELS
    ]


def _told(task: Task) -> str:
    """The loss and the remaining time, or why it waits."""
    if task.state == "pending":
        return " ".join(task["waiting_for"])
    parts = []
    loss, eta = task["metrics"].get("loss"), task["progress"].get("eta")
    if loss is not None:
        parts.append(f"loss {loss:.4f}")
    if eta is not None and not task.is_final:
        parts.append(f"{eta:.0f} s left")
    return ", ".join(parts)


def _figures(row: dict[str, Any]) -> list[str]:
    return [_figure(row.get(name)) for name in ("mse", "ci", "rm2", "pearson")]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
