"""A batch with hands, in processes and a database of its own: what became of it, as JSON.

python -m tests.inference.hands_run plain|kill|stop|cancel
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from django.conf import settings

from bench.database import own_database

FIRST, COUNT = 1000, 4000  # of the items, which are numbers
HERE = os.getpid()
PATIENCE = 30.0  # seconds
SLOW = 60.0  # seconds that a hand takes to begin


def main(modes: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, own_database(Path(folder)):
        environment = settings.ENVIRONMENT
        settings.ENVIRONMENT = replace(environment, batch_processes=2)
        from inference.spare import Spare

        prepare()
        spare = Spare.make()
        assert spare is not None
        found: dict[str, Any] = {mode: run(mode, spare) for mode in modes}
        found["threads"] = len(list(Path(f"/proc/{spare.pid}/task").iterdir()))
        sys.stdout.write(json.dumps(found))
        sys.stdout.flush()


def prepare() -> None:
    """What the hands are to have as well."""
    from inference import hand
    from registry import recipes, store
    from tests.inference import tiny

    hand.ENOUGH = 0.0
    look = hand.loading.look

    def late(version: int) -> Any:
        if (store.root() / "slow").exists():
            time.sleep(SLOW)
        return look(version)

    hand.loading = SimpleNamespace(look=late, load=hand.loading.load)  # type: ignore[assignment]
    known = {"tiny": "tests.inference.tiny:RECIPE"}
    recipes._paths = lambda: known  # type: ignore[attr-defined]
    tiny.Predictor.uses_torch = False  # type: ignore[attr-defined]
    slow_down(tiny)


def run(mode: str, spare: Any) -> dict[str, Any]:
    from django.contrib.auth.models import User

    from inference import batches, hands, loading
    from inference.batch import BatchRun
    from inference.cache import ModelCache
    from inference.hands import Hands
    from inference.models import Shard
    from inference.shards import write_items
    from inference.spread import Spread
    from registry import store
    from registry.models import Task
    from tests.conftest import make_node
    from tests.inference import tiny

    Spread.__call__ = lambda self: 2  # type: ignore[method-assign]
    hands.WORTH = 0.0
    hands.STANDS_STILL = 1.0 if mode == "stop" else SLOW
    node = make_node("inference@one", cpus=3)
    path, count = write_items({"x": FIRST + n} for n in range(COUNT))
    user, _ = User.objects.get_or_create(username="alice")
    tiny.Predictor.batches.clear()
    task = batches.accept(tiny.make_version(), "inputs", path, count, user=user)
    task.assign(node)
    cache = ModelCache(loading.load, loading.look, capacity=4)
    pids: list[int] = []
    have = Hands.have

    def meet(self: Hands, more: int, left: float) -> bool:
        """The hand has done shards, and holds more."""
        is_new, found = not self.asked, have(self, more, left)
        if is_new:
            one = self._hands[0]
            until(lambda: self._hear(0.01) or one.pid)
            if mode != "slow":
                last = Shard.objects.filter(task=task).order_by("-number")
                until(lambda: last.filter(done_at__isnull=False)[:1].exists())
            pids.append(one.pid)
            do(mode, pids[0], task)
        return found

    Hands.have = meet  # type: ignore[method-assign]
    began = time.monotonic()
    if mode == "slow":
        (store.root() / "slow").touch()
    BatchRun(task, node, cache, spare=spare).run()
    seconds = time.monotonic() - began
    (store.root() / "slow").unlink(missing_ok=True)
    Hands.have = have  # type: ignore[method-assign]
    task = Task.objects.get(pk=task.pk)
    results = store.task_path(task.pk) / "files" / "results.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    return {
        "state": task.state,
        "values": [json.loads(line)["output"]["y"] for line in lines],
        "pids": pids,
        "lives": [lives(pid) for pid in pids],
        "seconds": seconds,
        "own": sum(tiny.Predictor.batches),
        "torch": "torch" in sys.modules,
    }


def do(mode: str, pid: int, task: Any) -> None:
    if mode == "kill":
        os.kill(pid, signal.SIGKILL)
    if mode == "stop":
        os.kill(pid, signal.SIGSTOP)
    if mode == "cancel":
        task.request_cancel()


def slow_down(tiny: Any) -> None:
    """A hand takes its time, so that it is met at work."""
    predict = tiny.Predictor.predict

    def slowly(self: Any, encoded: list[float]) -> Any:
        if os.getpid() != HERE:
            time.sleep(0.002)
        return predict(self, encoded)

    tiny.Predictor.predict = slowly


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


if __name__ == "__main__":
    main(sys.argv[1:])
