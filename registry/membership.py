"""A worker process's place among the nodes: it joins, beats, and leaves."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import close_old_connections

from registry import dispatcher, room
from registry.models import Node
from registry.models.node import BEAT_EVERY

log = logging.getLogger(__name__)

_here: Membership | None = None  # of this process, once it has joined

RESERVED = 0.1  # of the memory, for the system and Compass itself


def end_process() -> None:
    """Have Celery end this process in good order."""
    os.kill(os.getpid(), signal.SIGTERM)


class Membership(threading.Thread):
    """Registers a node under a new incarnation and beats for it until it leaves.

    Each beat carries what `tell` says of the node (gpus, status), and `on_beat` runs after it.
    `on_lost` runs once, if another life took the node's name. For `is_gone` see Node.register.
    """

    def __init__(
        self,
        name: str,
        *,
        tell: Callable[[], dict[str, Any]] = dict,
        on_beat: Callable[[Node], object] | None = None,
        on_lost: Callable[[], object] = end_process,
        **options: Any,
    ) -> None:
        super().__init__(name="beat", daemon=True)
        self._tell, self._on_beat, self._on_lost = tell, on_beat, on_lost
        self._left = threading.Event()
        told = self._told(name)
        self._open = _open(told)
        self.node = Node.register(name, **{**own_capacity(), **told, **options})

    def join_in(self) -> None:
        """Begin to beat, and let the scheduler know of the new node."""
        global _here
        _here = self
        self.start()
        dispatcher.nudge()

    def leave(self) -> None:
        self._left.set()
        self.node.stop()

    def run(self) -> None:
        every = BEAT_EVERY.total_seconds()
        # The nodes of a host begin together; their beats would take its cores together for ever.
        pause = every * random.random()  # noqa: S311
        while not self._left.wait(pause):
            pause = every
            try:
                if not self.beat():
                    log.error("Another life of %s has begun; this one ends", self.node)
                    self._on_lost()
                    return
                if self._on_beat:
                    self._on_beat(self.node)
            except (
                Exception
            ) as error:  # the database may be away; the next beat tries again
                log.warning("A beat of %s failed: %s", self.node, error)
                close_old_connections()

    def beat(self) -> bool:
        """Tell of the node now, and place anew if what it offers has changed."""
        told = self._told(self.node.name)
        if not self.node.beat(**told):
            return False
        if told and _open(told) != self._open:
            self._open = _open(told)
            dispatcher.nudge()
        return True

    def _told(self, name: str) -> dict[str, Any]:
        try:
            told = self._tell()
            status = {**told.get("status", {}), "short": room.shortage()}
        except Exception:  # a node that cannot look at itself lives all the same
            log.exception("%s could not be looked at", name)
            return {}
        return {**told, "status": status}


def _open(told: dict[str, Any]) -> Any:
    """What of it decides whether work is placed there."""
    gpus = [(gpu["index"], bool(gpu["busy"])) for gpu in told.get("gpus", ())]
    return gpus, bool(told.get("status", {}).get("short"))


def here() -> Node:
    """The node that this process is. Raises LookupError if it is none."""
    if _here is None:
        raise LookupError("This process is no node.")
    return _here.node


def own_capacity() -> dict[str, Any]:
    """What this host offers: CPUs, memory in bytes, and who the process is."""
    environment = settings.ENVIRONMENT
    return {
        "cpus": environment.cpus,
        "memory": int(environment.memory * (1 - RESERVED)),
        "gpus": [],
        "host": environment.node_name,
        "pid": os.getpid(),
    }
