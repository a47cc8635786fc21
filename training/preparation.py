"""What a job needs before it starts: directories, its data set and its settings."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from registry import devices, store, uploads
from registry.errors import Problem
from registry.models import Task, Upload
from training import cores, data, marks, script_preparation
from training.models import Metric
from training.orphans import place_of
from training.submission import refuse_other_types

LOG = "log.txt"


def prepare(task: Task, gpus: list[int]) -> dict[str, Any]:
    """Make the attempt's directories and the plain data that the job is launched with.

    Raises Problem if what it reads is gone, or is no CSV file where a training reads it.
    """
    home = store.task_path(task.pk)
    home.mkdir(parents=True, exist_ok=True)
    log = own_log(task, home / LOG)
    task.attempts.filter(number=task.attempt).update(log_start=log.stat().st_size)
    if task.kind == "script":
        return script_preparation.prepare(task, gpus, log)
    return _training(task, gpus, home, log)


def _training(task: Task, gpus: list[int], home: Path, log: Path) -> dict[str, Any]:
    attempt = home / f"attempt-{task.attempt}"
    if task.resume_from == "start":
        shutil.rmtree(home / "checkpoints", ignore_errors=True)
        Metric.objects.filter(task=task).delete()
    checkpoints = own_checkpoints(home / "checkpoints", task.attempt)
    for old in home.glob("attempt-*"):
        shutil.rmtree(old, ignore_errors=True)
    for directory in (attempt / "output", attempt / "scratch"):
        directory.mkdir(parents=True, exist_ok=True)
    assert task.node is not None
    return {
        "kind": task.kind,
        "task": task.pk,
        "mark": marks.of_job(place_of(task.node.name), task.pk, task.attempt),
        "affinity": cores.take(
            task.celery_id, task.cpus, from_the_end=task.lane == "gpu"
        ),
        "recipe": task.params["recipe"],
        "params": task.params["params"],
        "dataset": str(dataset_path(task.params["dataset"])),
        "checkpoints": str(checkpoints),
        "output": str(attempt / "output"),
        "scratch": str(attempt / "scratch"),
        "log": str(log),
        "device": devices.torch_device(gpus),
        "threads": task.cpus,
        "resume": task.resume_from == "checkpoint",
        "environment": {
            "CUDA_VISIBLE_DEVICES": ",".join(str(index) for index in gpus),
            "OMP_NUM_THREADS": str(task.cpus),
        },
    }


def own_checkpoints(directory: Path, attempt: int) -> Path:
    """The attempt's own directory of checkpoints, with all that the last one left.

    A job that was cut off may still be writing. It writes files anew and renames them, so what is
    linked here stays as it is, and what comes later is seen by no other attempt.
    """
    own, aside = directory / str(attempt), directory / f"{attempt}.part"
    for path in (own, aside):
        shutil.rmtree(path, ignore_errors=True)
    aside.mkdir(parents=True)
    earlier = [path for path in directory.iterdir() if path.name.isdigit()]
    for path in sorted(earlier, key=lambda path: int(path.name), reverse=True):
        shutil.copytree(path, aside, copy_function=_link, dirs_exist_ok=True)
        if any(aside.iterdir()):
            break
    aside.rename(own)
    for path in earlier:
        shutil.rmtree(path, ignore_errors=True)
    return own


def own_log(task: Task, log: Path) -> Path:
    """The task's log; a copy of it if the last attempt was lost, whose job may still write there."""
    log.parent.mkdir(parents=True, exist_ok=True)
    last = task.attempts.filter(number=task.attempt - 1, reason="node_lost")
    if log.exists() and last.exists():
        aside = log.with_name(f"{LOG}.{task.attempt}")
        shutil.copyfile(log, aside)
        aside.replace(log)
    log.touch()
    return log


def _link(source: str, target: str) -> str:
    """A second name of a whole file; one that is just being renamed away is passed over."""
    if not source.endswith(".part"):
        with contextlib.suppress(FileNotFoundError):
            os.link(source, target)
    return target


def dataset_path(dataset: str) -> Path:
    """The file of a built-in data set or a sealed upload.

    Raises Problem `unknown_dataset`, or `bad_data` for an upload that is no CSV file.
    """
    if dataset in data.BUILT_IN:
        return data.BUILT_IN[dataset].path
    upload = Upload.objects.filter(pk=dataset, state=Upload.State.SEALED).first()
    if upload is None:
        raise Problem("unknown_dataset", f"The data set {dataset} is gone.")
    refuse_other_types(upload)
    return uploads.dataset_path(upload)
