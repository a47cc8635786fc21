"""One thread's run of a task of kind `predict`: shard by shard, then one final verb."""

from __future__ import annotations

import errno
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import (
    InterfaceError,
    OperationalError,
    close_old_connections,
    connection,
)

from inference import predictor
from inference.cache import Facts, Loaded, ModelCache
from inference.choice import settle
from inference.forms import FORMS
from inference.shards import Shards
from registry import logs
from registry.errors import Problem
from registry.models import Node, Stale, Task

log = logging.getLogger(__name__)

BEAT_EVERY = 1.0  # seconds
LEASE = 18.0  # seconds without a successful beat; 0.6 of what rescue allows
CHUNK_SECONDS = 0.2  # of work between two looks at the wishes
MOST_IN_CHUNK = 256
RETRY_EVERY = 1.0  # seconds, while the database is away or memory is short
RETRIES = 60
AWAY = (OperationalError, InterfaceError)


class Ended(Exception):
    """The run is over early: by a wish (cancel, pause, move, release), time_limit, or abandon."""

    def __init__(self, wish: str) -> None:
        super().__init__(wish)
        self.wish = wish


class BatchRun:
    """Owns one attempt from its start to its final verb."""

    def __init__(
        self,
        task: Task,
        node: Node,
        cache: ModelCache,
        *,
        is_revoked: Callable[[], bool] = lambda: False,
        is_stopping: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.task, self.node, self._cache = task, node, cache
        self._is_revoked, self._is_stopping = is_revoked, is_stopping
        self._monotonic, self._sleep = monotonic, sleep
        self._form = FORMS[task.params["form"]]
        self._shards = Shards(task.pk, self._form)
        self._done, self._chunk = 0, predictor.BATCH // 2
        self._over, self._beating = threading.Event(), threading.Lock()

    def run(self) -> None:
        """Claim the attempt and see it through; never raises."""
        try:
            self.task.start(self.node)
        except Stale as stale:
            log.info("%s", stale)
            return
        except AWAY as error:
            log.warning("Task %s could not be started: %s", self.task.pk, error)
            return
        self._started = self._beaten = self._monotonic()
        heart = threading.Thread(target=self._keep_beating, daemon=True)
        heart.start()
        try:
            final: Callable[[], None] | None = self._work()
        except Ended as end:
            final = self._verb_of(end.wish)
        except Problem as problem:
            final = self._fail("model_unavailable", problem.detail)
        except OSError as error:
            log.exception("Task %s", self.task.pk)
            reason = (
                "disk_full"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "timeout_io"
            )
            final = self._fail(
                reason, "A file of the task could not be read or written."
            )
        except Exception:
            log.exception("Task %s", self.task.pk)
            final = self._fail(
                "error", "Something went wrong; the worker's log says what."
            )
        finally:
            self._over.set()
            heart.join()
        self._end(final)

    def beat(self) -> None:
        """Show that this run lives, how far it is, and read what its owner wishes."""
        done, total = self._done, self.task.params["count"]
        stage = "predicting" if done else "loading the model"
        progress = {
            "fraction": done / total,
            "stage": stage,
            "step": done,
            "steps": total,
        }
        with self._beating:
            self.task.beat(progress=progress)
            self._beaten = self._monotonic()

    def _work(self) -> Callable[[], None]:
        params = self.task.params
        if self.task.resume_from == "start":
            self._shards.forget()
        try:
            self._choice = settle(
                self.task, self._cache, say=self._say, hold=self._hold
            )
            self._say(f"Predicting {params['count']} items with {self._choice.model}.")
            self._with_model(lambda model, facts: self._predict(model, facts))
        except Problem as problem:
            self._say(problem.detail)
            self._shards.finish_all_with(problem)
            raise
        self._hold()
        result: dict[str, Any] = dict(self._shards.assemble())
        self._say(f"{result['failed_count']} of {result['total_count']} items failed.")
        self._done = params["count"]
        self._beat_if_possible()
        result |= self._choice.result()
        return lambda: self._complete(result)

    def _complete(self, result: dict[str, Any]) -> None:
        self.task.complete(result)
        self._shards.tidy()

    def _with_model(self, use: Callable[[Loaded, Facts], None]) -> None:
        """Hold the model for the whole run, waiting for memory if others fill it."""
        while True:
            self._look()
            try:
                with self._cache.use(self._choice.version_id) as (model, facts):
                    return use(model, facts)
            except Problem as problem:
                if problem.retry_after is None:
                    raise
                self._sleep(RETRY_EVERY)

    def _predict(self, model: Loaded, facts: Facts) -> None:
        for shard, lines in self._shards.missing():
            items = [json.loads(line) for line in lines]
            self._done = shard * self._shards.size
            answers: list[dict[str, Any]] = []
            while len(answers) < len(items):
                self._look()
                some = items[len(answers) : len(answers) + self._chunk]
                answers += self._timed(model, some, facts)
            self._hold()
            self._shards.write(shard, items, answers)

    def _timed(
        self, model: Loaded, items: list[Any], facts: Facts
    ) -> list[dict[str, Any]]:
        """The answers to one chunk; the next has the size that takes CHUNK_SECONDS."""
        began = self._monotonic()
        inputs = [self._form.as_input(item) for item in items]
        answers = predictor.answer(model, inputs, facts)
        self._done += len(items)
        spent = max(self._monotonic() - began, 1e-6)
        fitting = int(len(items) * CHUNK_SECONDS / spent)
        self._chunk = min(max(1, fitting), 2 * self._chunk, MOST_IN_CHUNK)
        return answers

    def _look(self) -> None:
        """Raise Ended if the owner, the worker or the clock wish it."""
        now, task = self._monotonic(), self.task
        if self._is_revoked():
            self._beat_if_possible()
        self._hold()
        if task.cancel_requested_at:
            raise Ended("cancel")
        if task.time_limit is not None and now - self._started > task.time_limit:
            raise Ended("time_limit")
        if task.pause_requested_at:
            raise Ended("pause")
        if task.release_requested_at:
            raise Ended("move")
        if self._is_stopping():
            raise Ended("release")

    def _hold(self) -> None:
        """Raise Ended once the attempt may be another's: a run that stood still writes nothing."""
        if self._over.is_set() or self._monotonic() - self._beaten > LEASE:
            raise Ended("abandon")

    def _keep_beating(self) -> None:
        while not self._over.wait(BEAT_EVERY):
            self._beat_if_possible()
        connection.close()

    def _beat_if_possible(self) -> None:
        try:
            self.beat()
        except Stale as stale:
            log.warning("%s", stale)
            self._over.set()
        except AWAY as error:
            log.warning("The database is away: %s", error)
            close_old_connections()

    def _verb_of(self, wish: str) -> Callable[[], None] | None:
        task = self.task
        stopped = f"{self.node.name} was stopped in good order."
        drained = f"{self.node.name} is drained; it goes on elsewhere."
        limit = f"It ran longer than its limit of {task.time_limit} s."
        verbs: dict[str, Callable[[], None]] = {
            "cancel": task.cancel,
            "pause": task.pause,
            "move": lambda: task.release("drained", drained),
            "release": lambda: task.release("worker_stopped", stopped),
            "time_limit": lambda: task.fail("time_limit", limit),
        }
        return verbs.get(wish)

    def _fail(self, reason: str, message: str) -> Callable[[], None]:
        return lambda: self.task.fail(reason, message)

    def _end(self, final: Callable[[], None] | None) -> None:
        """Write the final verb, again while the database is away; a stale attempt writes none."""
        for _ in range(RETRIES if final else 0):
            try:
                assert final is not None
                return final()
            except Stale as stale:
                log.warning("%s", stale)
                self.task.refresh_from_db()
                if not self.task.cancel_requested_at or self.task.is_final:
                    return None
                final = self.task.cancel
            except AWAY as error:
                log.warning("The database is away: %s", error)
                close_old_connections()
                self._sleep(RETRY_EVERY)
        return None

    def _say(self, text: str) -> None:
        path = logs.path(self.task)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{text}\n")
