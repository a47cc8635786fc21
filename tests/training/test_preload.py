from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import psutil
from training import preload
import torch

def resident():
    parts = psutil.Process().memory_maps(grouped=False)
    return sum(one.rss for one in parts if "torch" in one.path and one.perms == "r-xp")

print(resident() / 1e6)
layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.AdamW(layer.parameters())
layer(torch.ones(2, 3)).sum().backward()
optimizer.step()
print(resident() / 1e6)
"""


def test_the_warm_process_keeps_no_code_in_memory_and_still_trains() -> None:
    run = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=Path(__file__).resolve().parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    before, after = map(float, run.stdout.split())
    assert before < 2  # MB
    assert after > before
