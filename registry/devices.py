"""The GPUs of this host."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


def gpus() -> list[dict[str, Any]]:
    """Index, name and memory (bytes) of each GPU that NVIDIA's library sees; empty without one."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # the library raises errors of its own where no driver is
        return []
    try:
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            name, memory = (
                pynvml.nvmlDeviceGetName(handle),
                pynvml.nvmlDeviceGetMemoryInfo(handle),
            )
            found.append(
                {"index": index, "name": str(name), "memory": int(memory.total)}
            )
        return found
    finally:
        pynvml.nvmlShutdown()
