"""What a Celery worker becomes by its node name: cpu@, gpu@, inference@ or control@HOST."""

from __future__ import annotations

import logging
import sys
from typing import Any

from celery import signals

from compass import loop
from compass.celery import app

log = logging.getLogger(__name__)

_parts: dict[str, Any] = {}

app.steps["consumer"].add(loop.Turns)


@signals.celeryd_after_setup.connect
def prepare(sender: str, instance: Any, **_kwargs: Any) -> None:
    """Refuse what cannot work, and make the room's part of this process."""
    lane, at, _ = sender.partition("@")
    if not at or lane not in ("cpu", "gpu", "inference", "control"):
        sys.exit(
            f"A worker is named cpu@, gpu@, inference@ or control@HOST, not {sender}."
        )
    if instance.pool_cls.__module__ != "celery.concurrency.thread":
        sys.exit(f"{sender} needs `--pool threads`: jobs are processes of their own.")
    if lane in ("cpu", "gpu"):
        from training import worker

        _parts["work"] = worker.CURRENT = worker.Worker(sender)
    elif lane == "inference":
        from inference import worker as inference_worker
        from inference.spare import Spare

        spare = Spare.MADE or Spare.make()
        _parts["work"] = inference_worker.Worker(sender, spare=spare)
    else:
        _parts["control"] = sender


@signals.worker_ready.connect
def begin(**_: Any) -> None:
    """Join in, or end the process: Celery logs what a signal raises, and would go on idle for ever."""
    try:
        _begin()
    except Exception:
        log.exception("This worker cannot begin, and ends")
        sys.exit(1)
    loop.WATCH.start()


def _begin() -> None:
    if "work" in _parts:
        _parts["work"].begin()
    elif "control" in _parts:
        from registry import passes
        from registry.membership import Membership

        passes.Server().start()
        _parts["membership"] = Membership(_parts["control"])
        _parts["membership"].join_in()


@signals.worker_shutting_down.connect
def ask_to_stop(**_: Any) -> None:
    """Celery now waits for its threads, so they must be told to end."""
    loop.WATCH.leave()
    if "work" in _parts:
        _parts["work"].ask_to_stop()


@signals.worker_shutdown.connect
def stop(**_: Any) -> None:
    if "work" in _parts:
        _parts["work"].stop()
    if "membership" in _parts:
        _parts["membership"].leave()
