"""The steps of a batch as its own worker takes them, with the others at its side."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from django.db import close_old_connections

from inference import best, helping
from inference.bulk import Answerer, Batch, ByModel, Same
from inference.cache import Facts, Loaded, ModelCache
from inference.choice import Choice, settle
from inference.claims import Claims
from inference.ending import (
    AWAY,
    DEADLY,
    RETRY_EVERY,
    Ended,
    ends_its_workers,
)
from inference.gathering import Gathering
from inference.hands import Hands
from inference.holding import Held
from inference.spare import Spare
from inference.work import Work
from registry import logs
from registry.errors import BadData, Problem
from registry.models import Node, Stale, Task

log = logging.getLogger(__name__)

OTHERS_EVERY = 0.05  # seconds between two looks at what other workers do
GATHERED_AT_ONCE = 4  # shards, after each that was written
T = TypeVar("T")


class Lead:
    """Divides a batch, works on its shards until all are done, and puts them together.

    `look` is called between any two steps and ends the run by raising; `hold` only raises once
    the attempt may be another's.
    """

    def __init__(
        self,
        task: Task,
        node: Node,
        cache: ModelCache,
        *,
        look: Callable[[], object],
        hold: Callable[[], object],
        spare: Spare | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.task, self.node, self._cache = task, node, cache
        self._look, self._hold, self._spare = look, hold, spare
        self._monotonic, self._sleep = monotonic, sleep
        self._claims = Claims(task.pk, task.attempt, node.incarnation)
        self._batch = Batch.of(task)
        self._working: Work | None = None
        self._stage, self._is_whole = "reading the items", False
        self._gathering = Gathering(self._batch, task.attempt)

    def progress(self) -> dict[str, Any]:
        """How far it is, with what other workers have done."""
        working, done = self._working, self._batch.count
        if not self._is_whole:
            done = min(done, self._claims.done() * self._batch.size)
            done = min(self._batch.count, done + (working.unnoted if working else 0))
        return {
            "fraction": done / self._batch.count,
            "stage": self._stage,
            "step": done,
            "steps": self._batch.count,
        }

    def keep(self) -> None:
        """Hold on to the shards that were taken."""
        try:
            self._claims.keep()
        except AWAY as error:
            log.warning("The database is away: %s", error)
            close_old_connections()

    def run(self) -> dict[str, Any]:
        """All steps; the counts of items.

        Raises BadData, OSError, and Problem once every item says that the model cannot load.
        """
        try:
            return self._run()
        finally:
            self._gathering.leave()

    def _run(self) -> dict[str, Any]:
        params = self.task.params
        if self.task.resume_from == "start":
            self._batch.files.forget()
            self._patient(self._claims.forget)
        choice = self._settle()
        if ends_its_workers(self.task):
            self._divide()
            problem = Problem("internal", DEADLY)
            self._tell_all(problem)
            raise problem
        self._say(f"Predicting {params['count']} items with {choice.model}.")
        held = Held(self._cache, choice.version_id, self._sleep)
        held.start()
        try:
            self._divide()
            self._stage = "loading the model"
            model, facts = held.wait(self._look)
            self._stage = "predicting"
            with self._lent(model, facts) as hands:
                self._predict(ByModel(self._batch, model, facts), hands)
        except BadData:
            raise
        except Problem as problem:
            self._tell_all(problem)
            raise
        finally:
            held.let_go()
        result = self._assemble()
        self._say(f"{result['failed_count']} of {result['total_count']} items failed.")
        return {**result, **choice.result()}

    def _settle(self) -> Choice:
        """Which version answers. Raises Problem once every item says that none can."""
        try:
            return settle(self.task, self._cache, say=self._say, hold=self._hold)
        except Problem as problem:
            self._divide()
            self._tell_all(problem)
            raise

    def tidy(self) -> None:
        """Drop what was made on the way; what cannot be dropped goes with the task."""
        try:
            self._claims.forget()
            self._batch.files.tidy()
        except (*AWAY, OSError) as error:
            log.warning("Task %s is not tidied: %s", self.task.pk, error)

    def _divide(self) -> None:
        """Find where each shard begins, and let all workers take some."""
        batch = self._batch
        count = batch.source.prepare(batch.size, self._look)
        if count != batch.count:
            raise BadData(f"it has {count} rows, not {batch.count}")
        self._patient(lambda: self._claims.divide(batch.shards))
        if batch.shards > 1:
            helping.ask(self.node)

    @contextmanager
    def _lent(self, model: Loaded, facts: Facts) -> Iterator[Hands]:
        needs_torch = getattr(model, "uses_torch", True)
        hands = Hands(
            self._spare,
            self._claims,
            facts,
            model_size=int(model.nbytes),
            needs_torch=needs_torch,
        )
        try:
            yield hands
        finally:
            hands.end()

    def _predict(self, answer: Answerer, hands: Hands | None = None) -> None:
        """Work on the shards beside the other workers until all are done."""
        numbers = range(self._batch.shards)
        if self._batch.top is None and (done := self._gathering.begin(self._look)):
            self._patient(partial(self._claims.note, done))
        while True:
            self._work(answer, hands)
            if hands is not None:
                hands.wait(self._is_lent)
            if self._patient(self._claims.done) < len(numbers):
                if hands is not None and hands.asked:
                    # What is still held in this worker's name, nobody computes any more.
                    self._patient(partial(self._claims.give_back, {}))
                self._look()
                self._sleep(OTHERS_EVERY)
            elif gone := self._batch.files.missing(numbers[self._gathering.shards :]):
                self._patient(partial(self._claims.reopen, gone))
            else:
                return

    def _is_lent(self) -> bool:
        """Whether a hand holds a shard; one that only begins is not waited for."""
        self._look()
        return bool(self._patient(self._claims.held))

    def _work(self, answer: Answerer, hands: Hands | None) -> None:
        def look() -> None:
            try:
                self._look()
            except BaseException:
                if hands is not None:
                    hands.let_go()  # while the rest of this is being ended
                raise

        self._working = Work(
            self._batch,
            self._claims,
            look=look,
            straight=self._gathering.part,
            written=self._gather,
            hurry=self._gathering.hurry,
            hands=hands.have if hands is not None else lambda more, left: False,
            patient=self._patient,
            monotonic=self._monotonic,
        )
        try:
            self._working.run(answer)
        except Stale as stale:
            log.info("%s", stale)
            self.task.refresh_from_db()
            self._look()
            raise Ended("abandon") from None

    def _tell_all(self, problem: Problem) -> None:
        """Every item that has no answer yet gets this one."""
        self._say(problem.detail)
        self._stage = "telling every item"
        self._patient(self._claims.seize)
        self._predict(Same({"error": problem.as_dict()}))
        self._assemble()

    def _assemble(self) -> dict[str, Any]:
        """The results in one file; the counts of items."""
        batch, total = self._batch, self._batch.count
        self._look()
        self._stage = "gathering the results"
        result: dict[str, Any] = {}
        if batch.top is None:
            self._gather_all()
        else:
            result["kept_count"] = best.publish(batch, batch.top, self._look)
        failed = self._patient(self._claims.failed)
        self._stage, self._is_whole = "predicting", True
        counts = {"success_count": total - failed, "failed_count": failed}
        return {"total_count": total, **counts, **result}

    def _gather(self) -> None:
        """Put the next shards that stand behind those before."""
        if self._batch.top is None:
            self._gathering.gather(GATHERED_AT_ONCE)

    def _gather_all(self) -> None:
        while self._gathering.shards < self._batch.shards:
            self._look()
            self._gathering.gather(1)
        self._gathering.publish()

    def _patient(self, call: Callable[[], T]) -> T:
        """What the database answers, asked again while it is away and the lease holds."""
        while True:
            try:
                return call()
            except AWAY as error:
                log.warning("The database is away: %s", error)
                close_old_connections()
                self._hold()
                self._sleep(RETRY_EVERY)

    def _say(self, text: str) -> None:
        path = logs.path(self.task)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{text}\n")
