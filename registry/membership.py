"""A worker process's place among the nodes: it joins, beats, and leaves."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import close_old_connections

from registry import dispatcher
from registry.models import Node
from registry.models.node import BEAT_EVERY

log = logging.getLogger(__name__)

RESERVED = 0.1  # of the memory, for the system and Compass itself


class Membership(threading.Thread):
    """Registers a node under a new incarnation and beats for it until it leaves.

    `on_beat` runs after each beat; `on_lost` once, if another life took the node's name.
    """

    def __init__(
        self,
        name: str,
        *,
        on_beat: Callable[[Node], object] | None = None,
        on_lost: Callable[[], None] | None = None,
        **capacity: Any,
    ) -> None:
        super().__init__(name="beat", daemon=True)
        self._on_beat, self._on_lost = on_beat, on_lost
        self._left = threading.Event()
        self.node = Node.register(name, **{**own_capacity(), **capacity})

    def join_in(self) -> None:
        """Begin to beat, and let the scheduler know of the new node."""
        self.start()
        dispatcher.nudge()

    def leave(self) -> None:
        self._left.set()
        self.node.stop()

    def run(self) -> None:
        while not self._left.wait(BEAT_EVERY.total_seconds()):
            try:
                if not self.node.beat():
                    log.error("Another life of %s has begun; this one ends", self.node)
                    if self._on_lost:
                        self._on_lost()
                    return
                if self._on_beat:
                    self._on_beat(self.node)
            except (
                Exception
            ) as error:  # the database may be away; the next beat tries again
                log.warning("A beat of %s failed: %s", self.node, error)
                close_old_connections()


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
