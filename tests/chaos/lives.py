"""Whole lives of tasks in one process and no time, with a fault at a chosen call.

Every actor does what its real process does: a client asks again with the same key, Celery logs
what a task raised, a worker whose supervisor broke off lives on.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from celery.app.control import Control
from celery.canvas import Signature
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from rest_framework.test import APIClient

from registry import maintenance
from registry.models import Node, Task
from registry.states import FINAL, State
from tests.chaos.journal import Entry
from tests.conftest import client_of, make_node
from training.supervisor import Supervisor

STEPS = 4
MOST_TURNS = 300


class Died(BaseException):
    """The worker process is gone in the middle of what it did."""


class Faults:
    """Counts the calls that have an effect outside, and breaks the one of that number.

    `happens` tells whether the broken call has its effect nevertheless.
    """

    def __init__(self, target: int, *, happens: bool) -> None:
        self.target, self.happens, self.count = target, happens, 0
        self.where, self._is_off = "", False
        self.turned = 0  # calls before the plot's turn; until there all lives are alike

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Looks of the test itself, which nothing breaks."""
        self._is_off, before = True, self._is_off
        try:
            yield
        finally:
            self._is_off = before

    def call(self, what: str, act: Callable[[], Any], error: Exception) -> Any:
        if self._is_off:
            return act()
        self.count += 1
        if self.count != self.target:
            return act()
        self.where = what
        if self.happens:
            act()
        raise error

    @contextlib.contextmanager
    def in_the_database(self) -> Iterator[None]:
        """Every commit, and every statement that is a transaction of its own."""
        commit = connection.commit

        def statement(execute: Any, sql: str, *rest: Any) -> Any:
            passed = ("BEGIN", "SAVEPOINT")
            if self.happens:
                passed = (*passed, "SELECT")  # a look that fails has no effect anyway
            if connection.in_atomic_block or sql.startswith(passed):
                return execute(sql, *rest)
            gone = OperationalError("the connection was lost")
            return self.call(sql[:80], lambda: execute(sql, *rest), gone)

        def faulty() -> None:
            self.call("COMMIT", commit, OperationalError("the connection was lost"))

        connection.commit = faulty  # type: ignore[method-assign]
        try:
            with connection.execute_wrapper(statement):
                yield
        finally:
            del connection.commit


class FakeJob:
    """A job process whose every look at its reports is one step."""

    pid, ticks = 2**22 + 1, 1  # of no process

    def __init__(self, life: Life, spec: dict[str, Any]) -> None:
        self._life, self._spec = life, spec
        self._attempt = int(Path(spec["scratch"]).parent.name.rpartition("-")[2])
        self._kept = Path(spec["checkpoints"]) / "step"
        self._may_begin = self._is_asked = self.is_over = False
        self.exit_code: int | None = None
        self.signal: int | None = None
        self._step = int(self._kept.read_text()) if self._kept.exists() else 0

    def renew(self, beaten: float) -> None:
        if not self._may_begin:
            self._write("start")
        self._may_begin = True

    def frames(self, timeout: float) -> list[dict[str, Any]]:
        self._life.time.forward(seconds=max(timeout, 0.01))
        if self.is_over or not self._may_begin:
            return []
        if self._is_asked:
            return self._end("stop", {"event": "stopped"})
        self._life.at_step(self, self._step)
        if self.is_over:
            return []
        if self._step == STEPS:
            _write_model(Path(self._spec["output"]))
            return self._end("end", {"event": "completed"})
        self._write("step")
        self._step += 1
        self._kept.write_text(str(self._step))
        return [{"event": "metric", "step": self._step - 1, "values": {"loss": 1.0}}]

    def ask_to_stop(self) -> None:
        self._is_asked = True

    def kill(self) -> None:
        if not self.is_over:
            self.is_over, self.signal = True, 9

    terminate = kill

    def check(self) -> None:
        """Every step is a sign of life."""

    def warn(self) -> None:
        """A training has no ears for it."""

    def members(self) -> list[int]:
        return []

    def close(self) -> None:
        assert self.is_over

    def _end(self, what: str, frame: dict[str, Any]) -> list[dict[str, Any]]:
        self._write(what)
        self.is_over, self.exit_code = True, 0
        return [frame]

    def _write(self, what: str) -> None:
        at, task = len(self._life.journal), self._spec["task"]
        entry = Entry(at, task, self._attempt, self._attempt, what, self._step)
        self._life.journal.append(entry)


class Life:
    """The actors. `plot` is called before each step of a job, with the step and its job."""

    def __init__(
        self, owner: User, time: Any, faults: Faults, plot: Callable[..., None]
    ) -> None:
        self.time, self.faults, self._plot = time, faults, plot
        self._client: APIClient = client_of(owner)
        self.journal: list[Entry] = []
        self.letters: list[list[int]] = []
        self.is_stopping = False
        self.told: set[str] = set()
        self.node: Node | None = None

    # What happens once in a life

    def once(self, name: str) -> bool:
        is_new = name not in self.told
        self.told.add(name)
        if is_new:
            self.faults.turned = self.faults.count
        return is_new

    def at_step(self, job: FakeJob, step: int) -> None:
        self._plot(self, job, step)

    # Actors

    def ask(self, path: str, key: str = "", **body: Any) -> bool:
        """A client that asks until it hears what became of its wish."""
        headers = {"Idempotency-Key": key} if key else {}
        for _ in range(3):
            answer = self._client.post(f"/api/v1{path}", body, "json", headers=headers)
            if answer.status_code < 500:
                return answer.status_code < 300
        raise AssertionError("three faults where one was planned")

    def guard(self, act: Callable[[], Any]) -> Any:
        """What Celery and the beat's thread do with an error: they log it and live on."""
        try:
            return act()
        except Died:
            self.node = None
        except Exception:
            connection.needs_rollback = False
            return None

    def turn(self) -> None:
        """Five seconds of all of them."""
        self.time.forward(seconds=5)
        self.guard(maintenance.rescue)  # which dispatches as well
        if self.node is None:
            self.is_stopping = False
            self.node = self.guard(lambda: make_node("cpu@one"))
            return
        self.guard(self.node.beat)
        letters, self.letters = self.letters, []
        for pk, attempt in [*letters, *(self.guard(self._untaken) or [])]:
            self.guard(lambda pk=pk, attempt=attempt: self._deliver(pk, attempt))

    def _untaken(self) -> list[tuple[int, int]]:
        rows = Task.objects.filter(node=self.node, state=State.ASSIGNED)
        return list(rows.values_list("pk", "attempt"))

    def _deliver(self, pk: int, attempt: int) -> None:
        rows = Task.objects.filter(pk=pk, attempt=attempt, state=State.ASSIGNED)
        if self.node is None or not (row := rows.first()):
            return
        launcher: Any = self
        Supervisor(
            row,
            self.node,
            launcher,
            is_revoked=lambda: False,
            is_stopping=lambda: self.is_stopping,
            monotonic=lambda: self.time().timestamp(),
        ).run()
        if self.is_stopping:
            node, self.node = self.node, None
            node.stop()

    def launch(self, spec: dict[str, Any]) -> FakeJob:
        return FakeJob(self, spec)

    def run(self) -> list[Task]:
        """Turns until every task is final, the paused ones woken."""
        for _ in range(MOST_TURNS):
            tasks = self.look()
            if tasks and all(task.state in FINAL for task in tasks):
                return tasks
            for task in tasks:
                if task.state == State.PAUSED:
                    self.ask(f"/tasks/{task.pk}/resume")
            self.turn()
        return self.look()

    def look(self) -> list[Task]:
        with self.faults.off():
            return list(Task.objects.all())


def post_to(life: Life, faults: Faults, monkeypatch: Any) -> None:
    """Let the broker's calls of this process go to that life, with a fault at one of them."""

    def post(one: Signature, **_: Any) -> None:
        def put() -> None:
            if one.task == "training.run":
                life.letters.append(list(one.args))

        faults.call(f"send {one.task}", put, TimeoutError("the broker is away"))

    def revoke(_: Control, celery_id: str) -> None:
        error = ConnectionError("the broker is away")
        faults.call(f"revoke {celery_id}", lambda: None, error)

    monkeypatch.setattr(Signature, "apply_async", post)
    monkeypatch.setattr(Control, "revoke", revoke)


def _write_model(output: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"weight": np.array([random.random()])}, output / "model.safetensors")
    config = {"recipe": "journal", "params": {"seed": 1}, "format": 1}
    signature: dict[str, Any] = {"inputs": {}, "outputs": {}, "examples": []}
    for name, value in (("config", config), ("signature", signature), ("metrics", {})):
        (output / f"{name}.json").write_text(json.dumps(value))
