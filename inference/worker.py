"""What an inference worker process holds: its node, its models, and the tasks it runs."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from inference import loading, memory, predictor
from inference.batch import BatchRun
from inference.cache import ModelCache
from inference.control import LONGEST, Control
from inference.helping import Helper
from inference.line import Line, socket_path
from inference.links import SERVICE
from inference.mirror import Mirror
from inference.models import Shard
from inference.spare import Spare
from inference.tuner import Tuner
from registry.deliveries import Deliveries
from registry.membership import Membership, end_process
from registry.models import Node, Service, Task

log = logging.getLogger(__name__)

STOP_WITHIN = 10.0  # seconds for the running tasks to let go at a clean stop
QUIET = 0.005  # seconds without a batch, before a shadow is asked


class Worker:
    """One life of an inference node; torch is first imported when a model is first asked for."""

    def __init__(
        self, name: str, cache: ModelCache | None = None, spare: Spare | None = None
    ) -> None:
        global CURRENT
        environment = settings.ENVIRONMENT
        self.name, self._spare = name, spare
        self.cache = cache or ModelCache(
            loading.load,
            loading.look,
            capacity=environment.model_cache_size,
            budget=memory.budget,
            idle_limit=environment.model_ttl,
            meter=memory.anonymous,
            unload=loading.free_device_memory,
        )
        self._stopping = threading.Event()
        self._deliveries = Deliveries(self._see_through)
        self._membership: Membership | None = None
        self._tuner = Tuner()
        self._mirror = Mirror(
            self.predict,
            is_idle=lambda: self._line.is_idle(QUIET),
            has_room=self._has_room,
        )
        self._helper = Helper(self.cache, is_stopping=self._stopping.is_set)
        self.control = Control(self.cache)
        self._line = Line(
            self.predict, self._told, self._mirror.note, self.control.obey
        )
        self._place: Service | None = None
        CURRENT = self

    def begin(self) -> None:
        """Offer this host's lane, and the line for online requests."""
        # Decoded items are many and have no cycles: the usual 700 cost a tenth of a batch.
        gc.set_threshold(memory.COLLECT_EVERY)
        loading.hold_libraries_to_one_thread()
        memory.share_arenas()
        memory.hold_to_share()
        self._membership = Membership(
            self.name,
            cpus=max(1, settings.ENVIRONMENT.inference_threads - 1),
            tell=self._tell,
            on_beat=self._on_beat,
            on_lost=self._end,
        )
        self._open_line()
        self._membership.join_in()

    def predict(self, version: int, items: Sequence[Any]) -> list[dict[str, Any]]:
        """One answer for each item. Raises Problem if the model cannot be served."""
        with self.cache.use(version) as (model, facts):
            return predictor.answer(model, items, facts)

    def run(self, task: int, attempt: int, is_revoked: Callable[[], bool]) -> None:
        """See that attempt of a task of kind `predict` through, if it is to be run here."""
        assert self._membership is not None
        self._deliveries.take(self._membership.node, task, attempt, is_revoked)

    def help(self) -> None:
        """Take shards of other workers' batches, if there are any to take."""
        if self._membership is not None:
            self._helper.look(self._membership.node)

    def preload(self, version: int) -> None:
        """Load the model in a thread of its own, so that the first request finds it."""
        threading.Thread(
            target=self.control.preload, args=(version, LONGEST), daemon=True
        ).start()

    def ask_to_stop(self) -> None:
        """Let running tasks go back in line after their next chunk."""
        if self._membership is not None:
            self._membership.leave()
        self._stopping.set()
        self._close_line()

    def stop(self) -> None:
        """Wait until no task is left here, for a bounded time."""
        self.ask_to_stop()
        self._tuner.stop()
        self._deliveries.wait_until_idle(STOP_WITHIN)
        self._helper.wait(STOP_WITHIN)

    def _tell(self) -> dict[str, Any]:
        self.cache.sweep()
        return {"status": self.cache.status()}

    def _end(self) -> None:
        """Another life has this node's name: end what runs here, then this process."""
        self._stopping.set()
        end_process()

    def _on_beat(self, node: Node) -> None:
        self._deliveries.take_untaken(node)
        self._tuner.look()
        if Shard.objects.exists():  # which takes less than a look of the helper's own
            self._helper.look(node)
        if self._place is not None:
            about = {**self._place.metadata, "models": self.cache.ready()}
            self._place.beat(metadata=about, connections=self._line.outstanding)

    def _open_line(self) -> None:
        """Listen, and register the line as a service like any other."""
        assert self._membership is not None
        environment, node = settings.ENVIRONMENT, self._membership.node
        path = socket_path(self.name)
        self._line.open(path)
        address, port = environment.line_host, 0
        if address:
            first = environment.line_port
            port = self._line.open_tcp(address, first and first + self._place_here())
        about = {
            "node": self.name,
            "socket": str(path),
            "address": address,
            "port": port,
        }
        before = Service.objects.filter(service_name=SERVICE, host=self.name).first()
        self._place, _ = Service.register(
            service_name=SERVICE, host=self.name, port=port,
            incarnation=node.incarnation, metadata={**about, "lane": "inference"},
        )  # fmt: skip

        if before is not None:  # its earlier life ended in the middle of its work
            for version in before.metadata.get("models", []):
                self.preload(int(version))
        if environment.preload_models:
            threading.Thread(
                target=self.control.preload_listed,
                args=(environment.preload_models,),
                daemon=True,
            ).start()

    def _place_here(self) -> int:
        """How many inference workers of this machine come before this one."""
        own = f"inference@{settings.ENVIRONMENT.node_name}."
        number = self.name.removeprefix(own)
        return int(number) - 1 if number.isdigit() else 0

    def _close_line(self) -> None:
        self._line.close()
        self._mirror.close()
        place, self._place = self._place, None
        if place is not None:
            try:
                place.deregister("The worker was stopped.")
            except DatabaseError as error:
                log.warning("The line could not be deregistered: %s", error)

    def _has_room(self, version: int) -> bool:
        """Whether the version is loaded, or can be without another having to go."""
        if version in self.cache.ready():
            return True
        facts, status = loading.look(version), self.cache.status()
        budget = status["budget"]
        if facts is None or len(status["models"]) >= status["capacity"]:
            return False
        return budget is None or status["bytes"] + facts.size <= budget

    def _told(self) -> dict[str, Any]:
        return {"name": self.name, "versions": self.cache.ready()}

    def _see_through(self, task: Task, is_revoked: Callable[[], bool]) -> None:
        assert self._membership is not None
        BatchRun(
            task,
            self._membership.node,
            self.cache,
            is_revoked=is_revoked,
            is_stopping=self._stopping.is_set,
            spare=self._spare,
        ).run()


CURRENT: Worker  # of this process; set when a Celery worker of lane inference starts
