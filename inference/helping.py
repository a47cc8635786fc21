"""A worker's help with the batches of others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import connection

from inference import choice
from inference.bulk import Batch, ByModel
from inference.cache import ModelCache
from inference.claims import Claims, in_need
from inference.ending import Ended
from inference.holding import Held
from inference.work import Work
from registry import broker, clock
from registry.errors import Problem
from registry.models import Node, Stale, Task

log = logging.getLogger(__name__)

LOOK_EVERY = 0.4  # seconds between two looks at the batch's row
DECLINED_FOR = 30.0  # seconds, after something went wrong with it here
COMMAND = "inference_help"


def ask(node: Node) -> None:
    """Tell the other inference workers that there are shards to take; they find them anyway."""
    others = Node.objects.up(clock.now()).filter(lane=node.lane).exclude(pk=node.pk)
    if names := list(others.values_list("name", flat=True)):
        broker.tell(names, COMMAND)


class Helper:
    """Takes shards of other workers' batches, in one thread, one batch at a time."""

    def __init__(
        self,
        cache: ModelCache,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache, self._is_stopping, self._monotonic = cache, is_stopping, monotonic
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._declined: dict[int, float] = {}

    def look(self, node: Node) -> None:
        """Begin to help if somebody needs it and this worker does not help yet."""
        with self._lock:
            if self._is_stopping() or (self._thread and self._thread.is_alive()):
                return
            self._thread = threading.Thread(
                target=self._run, args=(node,), name="helper", daemon=True
            )
            self._thread.start()

    def wait(self, seconds: float) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def help(self, node: Node) -> None:
        """Help until nobody needs it. What goes wrong with a batch here is its own worker's to
        find."""
        while (task := self._next(node)) is not None:
            try:
                self._once(task, node)
            except (Stale, Ended) as end:
                log.info("No more help with task %s: %s", task.pk, end)
            except Problem as problem:
                log.warning("No help with task %s: %s", task.pk, problem.detail)
                self._declined[task.pk] = self._monotonic()
            except Exception:
                log.exception("No help with task %s", task.pk)
                self._declined[task.pk] = self._monotonic()

    def _run(self, node: Node) -> None:
        try:
            self.help(node)
        except (
            Exception
        ) as error:  # the database may be away; the next beat looks again
            log.warning("No help: %s", error)
        finally:
            connection.close()

    def _next(self, node: Node) -> Task | None:
        if self._is_stopping():
            return None
        here = Node.objects.up(clock.now()).filter(pk=node.pk, draining=False)
        if not here.filter(incarnation=node.incarnation).exists():
            return None
        fresh = self._monotonic() - DECLINED_FOR
        self._declined = {k: at for k, at in self._declined.items() if at > fresh}
        return in_need(node, self._declined)

    def _once(self, task: Task, node: Node) -> None:
        claims = Claims(task.pk, task.attempt, node.incarnation)
        seen = self._monotonic()

        def look() -> None:
            nonlocal seen
            if self._is_stopping():
                raise Ended("release")
            if self._monotonic() - seen >= LOOK_EVERY:
                seen = self._monotonic()
                if not claims.keep():
                    raise Ended("abandon")

        held = Held(self._cache, choice.kept(task).version_id)
        held.start()
        try:
            model, facts = held.wait(look)
            batch = Batch.of(task)
            work = Work(batch, claims, look=look, monotonic=self._monotonic)
            work.run(ByModel(batch, model, facts))
        finally:
            held.let_go()
