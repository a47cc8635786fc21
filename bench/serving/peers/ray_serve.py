"""Ray Serve with batching, HAProxy in front, no dashboard.

python -m bench.serving.peers.ray_serve MODEL PORT PROCESSES
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from typing import Any

os.environ.setdefault("RAY_SERVE_ENABLE_HA_PROXY", "1")
os.environ.setdefault("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import serve
from starlette.requests import Request

BATCH = {"tiny": 64, "dta": 8}
WAIT = 0.001  # seconds for a batch to fill


@serve.deployment
class Model:
    def __init__(self, name: str) -> None:
        import torch

        from bench.serving import models

        torch.set_num_threads(1)
        self.models, self.name, self.network = models, name, models.make(name)
        self.many.set_max_batch_size(BATCH[name])

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=WAIT)
    async def many(self, items: list[Any]) -> list[float]:
        return self.models.answer(self.network, self.name, items)

    async def __call__(self, request: Request) -> dict[str, Any]:
        value = await self.many((await request.json())["inputs"][0])
        return {"outputs": [{"y": value}]}


def main(model: str, port: str, processes: str) -> None:
    ray.init(
        num_cpus=os.cpu_count(), include_dashboard=False, _temp_dir=tempfile.gettempdir(),
        object_store_memory=100_000_000, log_to_driver=False,
    )  # fmt: skip
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    app = Model.options(
        num_replicas=int(processes), max_ongoing_requests=128,
        ray_actor_options={"num_cpus": 0},
    ).bind(model)  # fmt: skip
    serve.run(app, route_prefix="/predict")
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
