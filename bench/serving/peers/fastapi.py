"""The peer that people write first: FastAPI calling torch in its own process.

    python -m bench.serving.peers.fastapi MODEL PORT PROCESSES

uvicorn with uvloop and httptools, as many processes as it is told, no access log.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request

from bench.serving import models

torch.set_num_threads(1)
app = FastAPI()
name = os.environ.get("BENCH_MODEL", "tiny")
network = models.make(name)


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    asked = await request.json()
    values = models.answer(network, name, asked["inputs"])
    return {"model": name, "outputs": [{"y": value} for value in values]}


def main(model: str, port: str, processes: str) -> None:
    os.environ["BENCH_MODEL"] = model
    uvicorn.run(
        f"{__spec__.name}:app", port=int(port), workers=int(processes),
        access_log=False, log_level="warning",
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
