"""Commands that the web sends to every inference worker at once."""

from __future__ import annotations

from typing import Any

from celery.worker.control import control_command

from inference import worker


@control_command(args=[("version", int)])
def inference_preload(state: Any, version: int) -> dict[str, str]:
    """Load a model before it is asked for."""
    worker.CURRENT.preload(version)
    return {"ok": "loading"}


@control_command(args=[("version", int)])
def inference_evict(state: Any, version: int) -> dict[str, str]:
    """Let an idle model go."""
    return {"ok": "evicted" if worker.CURRENT.cache.evict(version) else "not idle here"}
