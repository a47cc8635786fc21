"""The nemesis: a plan of faults made from a seed, and the hand that carries it out."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import amqp
import celery
import httpx
import kombu
import psutil
import psycopg
import redis

from tests.chaos import services
from tests.chaos.services import Services
from tests.chaos.stack import NODES, Stack

QUEUES = ["control", "inference.cpu", *(f"cpu.{name}" for name in NODES)]
VICTIMS = (
    "cpu", "cpu", "cpu-two", "cpu-two", "job", "job", "job", "launcher", "control",
    "control-two", "beat", "beat-two", "web", "web", "inference", "broker", "stack",
)  # fmt: skip
FROZEN = ("cpu", "cpu-two", "job", "control", "control-two", "beat", "web", "broker")
WEIGHTS = {
    "kill": 10,
    "freeze": 5,
    "wipe_broker": 2,
    "restart_broker": 2,
    "cut_broker": 2,
    "cut_database": 3,
    "fill_disk": 2,
    "drop_messages": 2,
    "double_messages": 4,
}
AWAY = (
    OSError, psutil.Error, redis.RedisError, sqlite3.Error, psycopg.Error,
    kombu.exceptions.KombuError, amqp.AMQPError, httpx.HTTPError, services.NotHere,
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """`at` and `seconds` are in seconds, from the beginning and of its length."""

    at: float
    name: str
    victim: str = ""
    seconds: float = 0.0


def plan(seed: int, length: float, *, gentle: bool, has_disk: bool) -> list[Fault]:
    """All faults of a run, by its seed alone. A gentle one leaves out the long ones."""
    chance, faults, at = random.Random(f"{seed}-nemesis"), [], 1.0
    weights = {
        name: weight
        for name, weight in WEIGHTS.items()
        if has_disk or name != "fill_disk"
    }
    while at < length:
        name = chance.choices(list(weights), list(weights.values()))[0]
        victim, seconds = "", 0.0
        if name == "kill":
            victim = chance.choice(VICTIMS)
        elif name == "freeze":
            victim = chance.choice(FROZEN)
            seconds = chance.uniform(5, 12 if gentle else 40)
        elif name in ("cut_broker", "cut_database"):
            seconds = chance.uniform(1, 4 if gentle else 25)
        elif name == "fill_disk":
            seconds = chance.uniform(1, 3 if gentle else 10)
        elif name in ("drop_messages", "double_messages"):
            seconds = chance.uniform(0.5, 3)
        # Long enough before the end to be over with it.
        seconds = min(seconds, max(length - at, 1.0))
        faults.append(Fault(round(at, 2), name, victim, round(seconds, 2)))
        at += chance.uniform(1, 5)
    return faults


class Nemesis(threading.Thread):
    """Carries out a plan; a fault that lasts has a thread of its own."""

    def __init__(self, stack: Stack, faults: list[Fault], seed: int) -> None:
        super().__init__(name="nemesis", daemon=True)
        self._stack, self._faults = stack, faults
        self._services: Services = stack.services
        self._chance = random.Random(f"{seed}-hand")
        self._over = threading.Event()
        self._hands: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()

    def run(self) -> None:
        began = time.monotonic()
        for fault in self._faults:
            if self._over.wait(max(0.0, began + fault.at - time.monotonic())):
                return
            hand = threading.Thread(target=self._do, args=(fault,), daemon=True)
            self._hands.append(hand)
            hand.start()

    def finish(self) -> None:
        """End all faults, and wait until the last is undone."""
        self._over.set()
        self.join(60)
        for hand in self._hands:
            hand.join(60)
        for name in (*FROZEN, "stack"):
            for process in self._stack.find(name):
                with contextlib.suppress(psutil.Error):
                    process.resume()

    def _do(self, fault: Fault) -> None:
        acts: dict[str, Callable[[Fault], None]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "wipe_broker": lambda fault: self._services.wipe_broker(),
            "restart_broker": self._restart_broker,
            "cut_broker": self._cut_broker,
            "cut_database": self._cut_database,
            "fill_disk": self._fill_disk,
            "drop_messages": self._drop_messages,
            "double_messages": self._double_messages,
        }
        named = " ".join(filter(None, (fault.name, fault.victim)))
        try:
            acts[fault.name](fault)
        except AWAY:  # what it wanted to break was broken already
            self._count(self.missed, named)
        else:
            self._count(self.done, named)

    def _count(self, where: Counter[str], name: str) -> None:
        with self._lock:
            where[name] += 1

    # The faults

    def _kill(self, fault: Fault) -> None:
        self._victim(fault.victim).kill()

    def _freeze(self, fault: Fault) -> None:
        services.freeze(self._victim(fault.victim).pid, fault.seconds, self._over.wait)

    def _victim(self, name: str) -> psutil.Process:
        found = self._stack.find(name)
        if not found:
            raise ProcessLookupError(name)
        return self._chance.choice(found)

    def _restart_broker(self, fault: Fault) -> None:
        """Kill it and take away what it kept."""
        found = self._stack.find("broker")
        for process in found:
            process.kill()
            shutil.rmtree(self._stack.data / "broker" / "appendonlydir", True)
        if not found:  # the machine's, which others may use
            self._services.wipe_broker()

    def _cut_broker(self, fault: Fault) -> None:
        if found := self._stack.find("broker"):
            services.freeze(found[0].pid, fault.seconds, self._over.wait)
        else:
            self._services.cut_broker(fault.seconds, self._over.wait)

    def _cut_database(self, fault: Fault) -> None:
        self._services.cut_database(fault.seconds, self._over.wait)

    def _fill_disk(self, fault: Fault) -> None:
        services.fill(self._stack.data, fault.seconds, self._over.wait)

    def _drop_messages(self, fault: Fault) -> None:
        deadline = time.monotonic() + fault.seconds
        while time.monotonic() < deadline and not self._over.wait(0.01):
            self._services.drop_messages(QUEUES)

    def _double_messages(self, fault: Fault) -> None:
        """Send messages of old and present attempts again, to the right node and to the wrong."""
        answer = self._stack.ask("GET", "/api/v1/tasks")
        rows = answer.json()["results"] if answer.status_code == 200 else []
        with celery.Celery(
            broker=self._services.broker_url, set_as_current=False
        ) as app:
            app.conf.broker_transport_options = {"socket_timeout": 2, "max_retries": 1}
            for row in self._chance.sample(rows, min(len(rows), 10)):
                for attempt in range(max(1, row["attempt"] - 1), row["attempt"] + 2):
                    app.send_task(
                        "training.run",
                        args=[int(row["id"]), attempt],
                        task_id=f"{row['id']}-{attempt}",
                        queue=f"cpu.{self._chance.choice(NODES)}",
                        retry=False,
                        ignore_result=True,
                    )
