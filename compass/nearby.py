"""The stack that the environment names, or that runs on this machine: its address and a key."""

from __future__ import annotations

import os
from pathlib import Path


def default_url() -> str:
    for name in ("COMPASS_URL", "REGISTRY_URL"):
        if url := os.environ.get(name):
            return url
    address = _data_dir() / "address"
    return address.read_text().strip() if address.exists() else "http://127.0.0.1:8000"


def default_key() -> str:
    if key := os.environ.get("COMPASS_KEY"):
        return key
    path = _data_dir() / "key"
    return path.read_text().strip() if path.exists() else ""


def _data_dir() -> Path:
    return Path(os.environ.get("COMPASS_DATA_DIR") or "~/.compass").expanduser()
