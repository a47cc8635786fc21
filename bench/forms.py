"""What an item of `dta` costs in each form that its graph may have, beside eager torch, in turns.

    python -m bench.forms [--rounds 40]

Milliseconds of processor time an item, the least of all rounds, with one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import django
import torch

from bench.report import Report
from bench.serving import models
from bench.serving.recipes import Dta

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")
django.setup()

from inference import engines, export  # noqa: E402

SIZES = 1, 8, 32  # items of a pass
EAGER, AS_IT_IS = "eager torch", "as it is"
Pass = Callable[[], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    report = Report("forms")
    with tempfile.TemporaryDirectory() as where:
        for size, passes in ready(Path(where)).items():
            for name, took in least(passes, rounds).items():
                report.add(f"{name}, {size} at once", 1e3 * took / size, "ms")
    return report.finish()


def ready(where: Path) -> dict[int, dict[str, Pass]]:
    """What is timed for each size, by its name."""
    models.write("dta", where / "model")
    model, file = Dta.load(where / "model"), where / "network.onnx"
    letters = [models.encode("dta", item) for item in models.items("dta", max(SIZES))]
    export.write(model, model.tensors(letters[:2]), file)
    files = {AS_IT_IS: file, **export.write_forms(file)}
    runs = {EAGER: engines.eager(model)}
    runs |= {name: engines.open_onnx(one) for name, one in files.items()}
    batches = {size: model.tensors(letters[:size]) for size in SIZES}
    return {
        size: {name: partial(run, batch) for name, run in runs.items()}
        for size, batch in batches.items()
    }


def least(passes: dict[str, Pass], rounds: int) -> dict[str, float]:
    """Seconds of processor time of each."""
    took = dict.fromkeys(passes, float("inf"))
    for _ in range(rounds):
        for name, one in passes.items():
            began = time.process_time()
            with torch.inference_mode():
                one()
            took[name] = min(took[name], time.process_time() - began)
    return took


if __name__ == "__main__":
    sys.exit(main())
