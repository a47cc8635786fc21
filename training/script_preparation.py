"""What an attempt of a script needs before it starts: its directories, text, inputs and words."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from django.conf import settings

from registry import store, trees, uploads
from registry.errors import Problem
from registry.models import Task, Upload
from training import cores, marks
from training.orphans import place_of
from training.script_files import attempt_path, output_names, script_path
from training.script_text import options
from training.scripts import environment


def prepare(task: Task, gpus: list[int], log: Path) -> dict[str, Any]:
    """Make the attempt's directories and the plain data that the script is launched with.

    Raises Problem if the script or an upload that it reads is gone.
    """
    assert task.node is not None
    asked, home = task.asked, attempt_path(task)
    for old in store.task_path(task.pk).glob("attempt-*"):
        trees.remove(old)
    for directory in ("work", "scratch"):
        (home / directory).mkdir(parents=True)
    script = home / "script"
    text = _text(task)
    script.write_bytes(text)
    script.chmod(0o640)
    stdout, stderr = output_names(task)
    spec = {
        "kind": "script",
        "task": task.pk,
        "attempt": task.attempt,
        "mark": marks.of_job(place_of(task.node.name), task.pk, task.attempt),
        "name": task.name,
        "lane": asked.get("partition") or task.lane,
        "host": task.node.name.partition("@")[2],
        "home": str(home),
        "work": str(home / "work"),
        "scratch": str(home / "scratch"),
        "script": str(script),
        "options": options(text),
        "inputs": {name: _source(pk) for name, pk in asked["files"].items()},
        "env": asked["env"],
        "cpus": task.cpus,
        "memory": task.memory,
        "gpus": gpus,
        "affinity": cores.take(
            task.celery_id, task.cpus, from_the_start=task.lane == "gpu"
        ),
        "array": _array(task),
        "log": str(log),
        "log_limit": settings.ENVIRONMENT.log_limit,
        "disk_limit": settings.ENVIRONMENT.script_disk_limit,
        "stdout": stdout,
        "stderr": stderr,
        "named": [stdout, stderr]
        if asked.get("stdout")
        else [stderr] * bool(asked.get("stderr")),
        "groups": True,
    }
    spec["environment"] = environment.words(spec)
    return spec


def _text(task: Task) -> bytes:
    """The whole script. Raises Problem if it is not what was submitted."""
    asked = task.asked
    text: bytes = asked["script"].encode()
    if len(text) != asked["script_size"]:
        try:
            text = script_path(task).read_bytes()
        except FileNotFoundError:
            text = b""
    if hashlib.sha256(text).hexdigest() != asked["script_sha256"]:
        raise Problem("bad_data", "The script's text is gone from the data directory.")
    return text


def _source(pk: str) -> str:
    upload = Upload.objects.filter(pk=pk, state=Upload.State.SEALED).first()
    if upload is None:
        raise Problem("bad_data", f"The upload {pk}, which the script reads, is gone.")
    return str(uploads.dataset_path(upload))


def _array(task: Task) -> dict[str, int | None] | None:
    if task.array is None:
        return None
    indexes = task.array.elements.order_by("array_index").values_list(
        "array_index", flat=True
    )
    return {
        "id": task.array.pk,
        "index": task.array_index,
        "size": task.array.array_size,
        "first": indexes.first(),
        "last": indexes.last(),
    }
