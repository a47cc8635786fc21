"""What a cpu or gpu worker process holds: its node, its launcher, and the attempts it runs."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import psutil

from registry import devices, room
from registry.crashpoints import crashpoint
from registry.deliveries import Deliveries
from registry.maintenance import UNKNOWN_AFTER
from registry.membership import Membership, end_process
from registry.models import Node, Task
from registry.resources import GIB
from training import cores, marks, orphans
from training.launcher import Launcher
from training.scripts import groups
from training.supervisor import Supervisor

log = logging.getLogger(__name__)

STOP_WITHIN = 20.0  # seconds for all jobs to leave a checkpoint at a clean stop
SWEEP_EVERY = 30.0  # seconds between two looks for orphan processes


class Worker:
    """One life of a node; made once in the worker's process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._stopping = threading.Event()
        self._launcher = Launcher()
        self._deliveries = Deliveries(self._supervise)
        self._membership: Membership | None = None
        self._watch = devices.Watch(devices.inventory(), partial(own_processes, name))
        self._swept = 0.0

    def begin(self) -> None:
        """End what an earlier life left, then offer this host's resources."""
        self._launcher.warm_up()
        self._membership = Membership(
            self.name,
            is_gone=orphans.is_gone,
            tell=self._tell,
            on_beat=self._on_beat,
            on_lost=self._end,
        )
        self._sweep()
        mark = marks.of_node(orphans.place_of(self.name))
        groups.remove_leftovers(f"{mark >> marks.JOB_BITS:x}")
        self._membership.join_in()

    def run(self, task: int, attempt: int, is_revoked: Callable[[], bool]) -> None:
        """Supervise that attempt, if it is still to be run here."""
        assert self._membership is not None
        self._deliveries.take(self._membership.node, task, attempt, is_revoked)

    def ask_to_stop(self) -> None:
        """Let every job checkpoint and give its resources back."""
        try:
            if self._membership is not None:
                self._membership.leave()
            crashpoint("left-before-release")
        finally:  # the database may be away; the jobs leave their checkpoints all the same
            self._stopping.set()

    def stop(self) -> None:
        """Wait until the jobs are gone, for a bounded time."""
        self.ask_to_stop()
        self._deliveries.wait_until_idle(STOP_WITHIN)

    def refusal(self, task: Task, gpus: Collection[int]) -> str:
        """Why it cannot begin here at this moment, as a sentence; else empty."""
        assert self._membership is not None
        text = taken(self.name, self._watch, gpus)
        if text:
            # At once, so that nothing else is placed on what somebody took.
            self._membership.beat()
        return text or too_large(self.name, task)

    def _supervise(self, task: Task, is_revoked: Callable[[], bool]) -> None:
        assert self._membership is not None
        try:
            Supervisor(
                task,
                self._membership.node,
                self._launcher,
                is_revoked=is_revoked,
                is_stopping=self._stopping.is_set,
                refusal=self.refusal,
            ).run()
        finally:
            cores.give_back(task.celery_id)

    def _tell(self) -> dict[str, Any]:
        cores.look()
        return {"gpus": self._watch.look() if self.name.startswith("gpu@") else []}

    def _on_beat(self, node: Node) -> None:
        self._deliveries.take_untaken(node)
        node.give_back(
            "node_lost",
            "Its worker no longer runs it.",
            is_gone=orphans.is_gone,
            tasks=self._deliveries.forgotten(node, UNKNOWN_AFTER),
        )
        if time.monotonic() - self._swept > SWEEP_EVERY:
            self._sweep()

    def _sweep(self) -> None:
        orphans.end_orphans(self.name)
        self._swept = time.monotonic()

    def _end(self) -> None:
        """Another life has this node's name: end what runs here, then this process."""
        self._stopping.set()
        end_process()


def taken(name: str, watch: devices.Watch, gpus: Collection[int]) -> str:
    """Which of the GPUs, or what of the host, somebody outside Compass has taken."""
    found = {gpu["index"]: str(gpu["busy"]) for gpu in watch.look()} if gpus else {}
    for index in gpus:
        if text := found.get(index, f"GPU {index} of {name} is gone."):
            return text
    lack = room.shortage()
    return f"{name} {lack}." if lack else ""


def too_large(name: str, task: Task) -> str:
    """Why the host cannot give it the memory that it asks for; else empty."""
    free = room.free_memory()
    if task.memory <= free:
        return ""
    return (
        f"It needs {task.memory / GIB:.1f} GiB of memory; the host of {name} "
        f"has {free / GIB:.1f} GiB left beside what runs outside Compass."
    )


def own_processes(name: str) -> set[int]:
    """Compass's own on this host: the worker's jobs, and the inference worker."""
    own = set(marks.carriers(marks.of_node(orphans.place_of(name))))
    inference = Node.objects.filter(name=f"inference@{name.partition('@')[2]}")
    for pid in {os.getpid(), *inference.values_list("pid", flat=True)}:
        try:
            children = psutil.Process(pid).children(recursive=True)
        except psutil.Error:
            continue
        own |= {pid, *(child.pid for child in children)}
    return own


CURRENT: Worker  # of this process; set when a Celery worker of lane cpu or gpu starts
