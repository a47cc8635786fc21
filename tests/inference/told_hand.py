"""A hand that tells whose child it is, and leaves once it is let go; number 1 dies."""

from __future__ import annotations

import json
import os
import socket
from typing import Any


def work(order: Any, line: socket.socket) -> None:
    threads = len(os.listdir(f"/proc/{os.getppid()}/task"))  # noqa: PTH208
    line.send(json.dumps([order["n"], os.getppid(), threads]).encode())
    if order["n"] == 1:
        os._exit(9)
    line.recv(64)
