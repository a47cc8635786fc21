"""MLServer with a runtime of one's own and its V2 protocol; no batching.

    python -m bench.serving.peers.mlserver MODEL PORT PROCESSES

With one process the model is called in the server's own (`parallel_workers` 0).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.serving import models


class Runtime(MLModel):
    async def load(self) -> bool:
        torch.set_num_threads(1)
        self.network = models.make(self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        fields = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        count = len(next(iter(fields.values())))
        some = [
            {name: rows[at] for name, rows in fields.items()} for at in range(count)
        ]
        values = torch.tensor(models.answer(self.network, self.name, some)).numpy()
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("y", values)]
        )


def main(model: str, port: str, processes: str) -> None:
    workers = int(processes)
    server: dict[str, Any] = {
        "host": "127.0.0.1", "http_port": int(port), "grpc_port": int(port) + 1,
        "metrics_endpoint": None, "metrics_port": int(port) + 1,
        "parallel_workers": 0 if workers == 1 else workers,
        "debug": False, "logging_settings": None,
    }  # fmt: skip
    home = Path(tempfile.mkdtemp())
    settings = {"name": model, "implementation": f"{__spec__.name}.Runtime"}
    server["environments_dir"] = str(home / "environments")
    (home / "settings.json").write_text(json.dumps(server))
    (home / "model-settings.json").write_text(json.dumps(settings))
    command = str(Path(sys.executable).with_name("mlserver"))
    os.execv(command, [command, "start", str(home)])  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
