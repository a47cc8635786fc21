"""The peer that people write first: FastAPI calling torch in its own process."""

from __future__ import annotations

from typing import Any

import torch
from fastapi import FastAPI, Request

from bench.serving import models

torch.set_num_threads(1)
app = FastAPI()
modules = {name: models.make(name) for name in models.MODULES}


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    asked = await request.json()
    name = asked["model"]
    rows = [models.encode(name, item) for item in asked["inputs"]]
    with torch.inference_mode():
        values = modules[name](*models.stack(rows)).squeeze(1).tolist()
    return {"model": name, "outputs": [{"y": value} for value in values]}
