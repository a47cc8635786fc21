from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_broker_that_is_frozen_or_dead_is_told_quickly(tmp_path: Path) -> None:
    environment = {
        "DJANGO_SETTINGS_MODULE": "compass.settings",
        "COMPASS_DATA_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    script = Path(__file__).with_name("away.py")
    done = subprocess.run(
        [sys.executable, script],
        env=environment, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["nobody"]["code"] == "timeout"
    assert found["frozen"]["code"] == "broker_unavailable"
    assert found["frozen"]["seconds"] < 8
    assert found["thawed"]["code"] == "timeout"
    assert found["dead"]["code"] == "broker_unavailable"
    assert found["dead"]["seconds"] < 4
