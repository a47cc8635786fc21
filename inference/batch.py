"""One thread's run of a task of kind `predict`: shard by shard, then one final verb."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable

from django.db import close_old_connections, connection

from inference.cache import ModelCache
from inference.ending import AWAY, RETRY_EVERY, Ended
from inference.lead import Lead
from inference.spare import Spare
from registry.errors import BadData, Problem
from registry.models import Node, Stale, Task

log = logging.getLogger(__name__)

BEAT_EVERY = 0.5  # seconds; a wish is seen that soon where its message is lost
LEASE = 18.0  # seconds without a successful beat; 0.6 of what rescue allows
KEEP_EVERY = 2.0  # seconds between two renewals of what was taken
RETRIES = 60


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
        spare: Spare | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.task, self.node, self._cache = task, node, cache
        self._spare = spare
        self._is_revoked, self._is_stopping = is_revoked, is_stopping
        self._monotonic, self._sleep = monotonic, sleep
        self._lead: Lead | None = None
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
        self._started = self._beaten = self._kept = self._monotonic()
        heart = threading.Thread(target=self._keep_beating, daemon=True)
        heart.start()
        try:
            final: Callable[[], None] | None = self._work()
        except Ended as end:
            final = self._verb_of(end.wish)
        except BadData as problem:
            final = self._fail("bad_data", f"The data set: {problem.detail}.")
        except FileNotFoundError as error:
            log.warning("Task %s: %s", self.task.pk, error)
            final = self._fail("bad_data", "A file of the batch is gone.")
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
        with self._beating:
            changes = {"progress": self._lead.progress()} if self._lead else {}
            self.task.beat(**changes)
            self._beaten = self._monotonic()

    def _work(self) -> Callable[[], None]:
        """Do all of it; the final verb."""
        self._lead = lead = Lead(
            self.task,
            self.node,
            self._cache,
            look=self._look,
            hold=self._hold,
            spare=self._spare,
            monotonic=self._monotonic,
            sleep=self._sleep,
        )
        try:
            result = lead.run()
        except Problem as problem:
            if isinstance(problem, BadData):
                raise
            is_deadly = problem.code == "internal"
            reason = "error" if is_deadly else "model_unavailable"
            final = self._fail(reason, problem.detail)
        else:
            final = lambda: self.task.complete(result)  # noqa: E731
        self._beat_if_possible()

        def end() -> None:
            final()
            lead.tidy()

        return end

    def _look(self) -> None:
        """Raise Ended if the owner, the worker or the clock wish it."""
        now, task = self._monotonic(), self.task
        if self._is_revoked():
            self._beat_if_possible()
        self._hold()
        if self._lead is not None and now - self._kept > KEEP_EVERY:
            self._kept = now
            self._lead.keep()
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
