"""A batch with hands, in processes and a database of its own: what became of it, as JSON.

python -m tests.inference.hands_run [--server URL] MODE... where a mode is plain, kill, stop, cancel,
slow or spare, or the format of a file: csv, parquet, jsonl, or top, of which the best are kept.
"""

from __future__ import annotations

import csv
import hashlib
import io
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

import psutil
from django.conf import settings
from django.db import transaction

from bench.database import own_database

FIRST, COUNT = 1000, 4000  # of the items, which are numbers
HERE = os.getpid()
PATIENCE = 30.0  # seconds
SLOW = 60.0  # seconds that a hand takes to begin


def main(modes: list[str]) -> None:
    server = ""
    if modes[0] == "--server":
        _, server, *modes = modes
    with tempfile.TemporaryDirectory() as folder, own_database(Path(folder), server):
        environment = settings.ENVIRONMENT
        settings.ENVIRONMENT = replace(environment, batch_processes=2)
        from inference.spare import Spare

        prepare()
        spare = Spare.make("tests.inference.hands_run.work")
        assert spare is not None
        found: dict[str, Any] = {
            mode: formed(mode, spare) if mode in FORMS else run(mode, spare)
            for mode in modes
        }
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


def work(order: Any, line: Any) -> None:
    """What a hand does, also one of a spare that was made anew and is prepared for nothing."""
    from inference import hand

    if hand.ENOUGH:
        prepare()
    hand.work(order, line)


def run(mode: str, spare: Any) -> dict[str, Any]:
    """A batch of numbers that something happens to."""
    from inference import batches
    from inference.shards import write_items

    path, count = write_items({"x": FIRST + n} for n in range(COUNT))
    model, user = version(), alice()
    with transaction.atomic():
        task = batches.accept(model, "inputs", path, count, user=user)
    found = batch(task, spare, mode)
    text = (found.pop("content") or b"").decode()
    values = [json.loads(line)["output"]["y"] for line in text.splitlines()]
    return {**found, "values": values}


def formed(mode: str, spare: Any) -> dict[str, Any]:
    """A batch over a file, without hands and with them: what differs is the hands' doing."""
    from inference import batches
    from inference.given import Given
    from registry import clock, store
    from registry.models import Upload

    layout, content = ("csv" if mode == "top" else mode), FORMS[mode]()
    aside, sha256 = store.aside(), hashlib.sha256(content).hexdigest()
    aside.write_bytes(content)
    store.publish_file(aside, sha256)
    upload = Upload.objects.create(
        filename=f"d.{layout}", name=f"d.{layout}", state="sealed", owner=alice(),
        sha256=sha256, created_at=clock.now(), touched_at=clock.now(),
    )  # fmt: skip
    model, asked = version(), {"top_k": COUNT // 4} if mode == "top" else {}

    def once(spare: Any) -> dict[str, Any]:
        given = Given(upload, layout)
        with transaction.atomic():
            task = batches.accept_given(
                model, given, given.count(), user=upload.owner, asked=asked
            )
        found = batch(task, spare, mode)
        found["rows"] = rows(layout, found.pop("content"))
        return found

    return {"without": once(None), "with": once(spare)}


def rows(layout: str, content: bytes) -> Any:
    if layout == "parquet":
        from pyarrow import parquet

        table = parquet.read_table(io.BytesIO(content))
        return [str(table.schema), *table.to_pylist()]
    return content.decode().splitlines()


def given_csv() -> bytes:
    text = io.StringIO(newline="")
    out = csv.writer(text)
    out.writerow(["name", "x"])
    for n in range(COUNT):
        out.writerow([f"line\n{n}" if n % 89 == 0 else f"n{n}", item(n)])
    return text.getvalue().encode()


def given_jsonl() -> bytes:
    lines = [json.dumps({"id": f"n{n}", "x": item(n)}) for n in range(COUNT)]
    return "\n".join(lines).encode()


def given_parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    numbers = [one if isinstance(one := item(n), int) else None for n in range(COUNT)]
    file = io.BytesIO()
    table = pyarrow.table({"x": pyarrow.array(numbers, pyarrow.float64())})
    table = table.append_column("id", pyarrow.array(range(COUNT), pyarrow.int16()))
    parquet.write_table(table, file, row_group_size=999)
    return file.getvalue()


def item(n: int) -> Any:
    """The numbers go up and down, among them the two that the model fails on; some are none."""
    return "bad" if n % 97 == 0 else n * 7919 % COUNT


FORMS = {
    "csv": given_csv,
    "jsonl": given_jsonl,
    "parquet": given_parquet,
    "top": given_csv,
}


def version() -> Any:
    from tests.inference import tiny

    return tiny.make_version()


def alice() -> Any:
    from django.contrib.auth.models import User

    return User.objects.get_or_create(username="alice")[0]


def batch(task: Any, spare: Any, mode: str) -> dict[str, Any]:
    """Run the task; what became of it."""
    from inference import hands, loading
    from inference.batch import BatchRun
    from inference.cache import ModelCache
    from inference.hands import Hands
    from inference.models import Shard
    from inference.spread import Spread
    from registry import store
    from registry.models import Task
    from tests.conftest import make_node
    from tests.inference import tiny

    Spread.__call__ = lambda self: 2  # type: ignore[method-assign]
    hands.WORTH = 0.0
    hands.STANDS_STILL = 1.0 if mode == "stop" else SLOW
    node = make_node("inference@one", cpus=3)
    tiny.Predictor.batches.clear()
    task.assign(node)
    cache = ModelCache(loading.load, loading.look, capacity=4)
    pids: list[int] = []
    have = Hands.have

    def meet(self: Hands, more: int, left: float) -> bool:
        """The hand has done shards, and holds more."""
        is_new, found = not self.asked, have(self, more, left)
        if is_new and found:
            one = self._hands[0]
            until(lambda: self._hear(0.01) or one.pid)
            if mode != "slow":
                last = Shard.objects.filter(task=task).order_by("-number")
                until(lambda: last.filter(done_at__isnull=False)[:1].exists())
            pids.append(one.pid)
            do(mode, spare.pid if mode == "spare" else pids[0], task)
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
    files = store.task_path(task.pk) / "files"
    results = list(files.glob("results.*"))
    return {
        "state": task.state,
        "result": task.result,
        "content": results[0].read_bytes() if results else b"",
        "pids": pids,
        "lives": [lives(pid) for pid in pids],
        "seconds": seconds,
        "own": sum(tiny.Predictor.batches),
        "torch": "torch" in sys.modules,
    }


def do(mode: str, pid: int, task: Any) -> None:
    if mode in ("kill", "spare"):
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
    """Still, after a while: its line closes before it has quite ended."""
    try:
        psutil.Process(pid).wait(PATIENCE)
    except psutil.NoSuchProcess:
        return False
    except psutil.TimeoutExpired:
        return True
    return False


if __name__ == "__main__":
    main(sys.argv[1:])
