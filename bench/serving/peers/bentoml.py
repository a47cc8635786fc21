"""BentoML with or without adaptive batching, one service with as many workers as it is told.

python -m bench.serving.peers.bentoml MODEL PORT PROCESSES [batching]
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import bentoml

BATCH = {"tiny": 64, "dta": 8}
name = os.environ.get("BENCH_MODEL", "tiny")
processes = int(os.environ.get("BENCH_PROCESSES", "1"))
is_batching = "BENCH_BATCHING" in os.environ


@bentoml.service(
    workers=processes, metrics={"enabled": False}, traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
)  # fmt: skip
class Service:
    def __init__(self) -> None:
        import torch

        from bench.serving import models

        torch.set_num_threads(1)
        self.models, self.network = models, models.make(name)

    @bentoml.api(
        route="/predict", batchable=is_batching, max_batch_size=BATCH[name],
    )  # fmt: skip
    def predict(self, inputs: list[dict[str, Any]]) -> list[float]:
        return self.models.answer(self.network, name, inputs)


def main(model: str, port: str, processes: str, *batching: str) -> None:
    os.environ |= {
        "BENCH_MODEL": model, "BENCH_PROCESSES": processes,
        "BENTOML_HOME": tempfile.mkdtemp(), "BENTOML_DO_NOT_TRACK": "True",
    }  # fmt: skip
    if batching:
        os.environ["BENCH_BATCHING"] = "1"
    command = [str(Path(sys.executable).with_name("bentoml")), "serve"]
    command += [f"{__spec__.name}:Service", "--port", port, "--host", "127.0.0.1"]
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
