"""LitServe with batching, as its documentation shows it.

python -m bench.serving.peers.litserve MODEL PORT PROCESSES
"""

from __future__ import annotations

import sys
from typing import Any

import litserve
import torch

from bench.serving import models

BATCH = {"tiny": 64, "dta": 8}
WAIT = 0.001  # seconds for a batch to fill


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        torch.set_num_threads(1)
        self.network = models.make(self.model)

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        # An annotation here would be taken for the schema of the request.
        return request["inputs"][0]

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: list[Any]) -> list[float]:
        return models.answer(self.network, self.model, x)

    def unbatch(self, output: list[float]) -> list[float]:
        return output

    def encode_response(self, output: float) -> dict[str, Any]:
        return {"outputs": [{"y": output}]}


def main(model: str, port: str, processes: str) -> None:
    api = Api(max_batch_size=BATCH[model], batch_timeout=WAIT)
    api.model = model
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(processes), fast_queue=True
    )
    server.run(port=int(port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
