"""TorchServe with batching: an archive with a handler of one function, and its Java front.

python -m bench.serving.peers.torchserve MODEL PORT PROCESSES
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path

BATCH = {"tiny": 64, "dta": 8}
WAIT = 1  # ms for a batch to fill
HANDLER = """\
import torch
from bench.serving import models

torch.set_num_threads(1)
network = models.make("{model}")


def handle(data, context):
    items = [one["body"]["inputs"][0] for one in data] if data else []
    values = models.answer(network, "{model}", items) if items else []
    return [{{"outputs": [{{"y": value}}]}} for value in values]
"""


def archive(path: Path, model: str, processes: int) -> None:
    """What torch-model-archiver would make."""
    manifest = {
        "createdOn": "01/01/2026 00:00:00", "runtime": "python", "archiverVersion": "0.12.0",
        "model": {
            "modelName": model, "handler": "handler.py:handle", "modelVersion": "1.0",
            "configFile": "model-config.yaml",
        },
    }  # fmt: skip
    settings = {
        "minWorkers": processes, "maxWorkers": processes, "batchSize": BATCH[model],
        "maxBatchDelay": WAIT,
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        mar.writestr("handler.py", HANDLER.format(model=model))
        mar.writestr("model-config.yaml", json.dumps(settings))  # JSON is YAML


def main(model: str, port: str, processes: str) -> None:
    home = Path(folder := tempfile.mkdtemp())
    archive(home / f"{model}.mar", model, int(processes))
    settings = {
        "inference_address": f"http://127.0.0.1:{port}",
        "management_address": f"http://127.0.0.1:{int(port) + 1}",
        "metrics_address": f"http://127.0.0.1:{int(port) + 2}",
        "metrics_mode": "prometheus", "disable_system_metrics": "true",
        "job_queue_size": "1000", "default_response_timeout": "60",
    }  # fmt: skip
    config = home / "config.properties"
    config.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
    binaries = Path(sys.executable).parent
    command = [str(binaries / "torchserve"), "--start", "--foreground", "--ncs"]
    command += ["--disable-token-auth", "--model-store", folder]
    command += ["--models", f"{model}={model}.mar", "--ts-config", str(config)]
    os.environ |= {
        "TEMP": folder, "LOG_LOCATION": folder, "METRICS_LOCATION": folder,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    os.chdir(home)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
