"""What a job needs before it starts: directories, its data set and its settings."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

from registry import devices, store, trees, uploads
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
    checkpoints = own_checkpoints(task, home / "checkpoints")
    for old in home.glob("attempt-*"):
        trees.remove(old)
    for directory in (attempt / "output", attempt / "scratch"):
        directory.mkdir(parents=True, exist_ok=True)
    assert task.node is not None
    return {
        "kind": task.kind,
        "task": task.pk,
        "mark": marks.of_job(place_of(task.node.name), task.pk, task.attempt),
        "affinity": cores.take(
            task.celery_id, task.cpus, from_the_start=task.lane == "gpu"
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


def own_checkpoints(task: Task, directory: Path) -> Path:
    """The attempt's own directory of checkpoints, with all that the last one left.

    The job of a lost attempt may still write into its own: it is copied, and what comes later
    is seen by no other attempt. Otherwise nobody writes there, and it gets another name.
    """
    own, aside = directory / str(task.attempt), directory / f"{task.attempt}.part"
    if own.is_dir():
        return own  # prepared already, before the database was away for a moment
    shutil.rmtree(aside, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    earlier = [path for path in directory.iterdir() if path.name.isdigit()]
    earlier.sort(key=lambda path: int(path.name), reverse=True)
    latest = next((path for path in earlier if any(path.iterdir())), None)
    if latest is None:
        own.mkdir()
    elif was_lost(task, int(latest.name)):
        shutil.copytree(latest, aside, copy_function=_copy)
        aside.rename(own)
    else:
        latest.rename(own)
    for path in earlier:
        shutil.rmtree(path, ignore_errors=True)
    return own


def was_lost(task: Task, attempt: int) -> bool:
    """Whether nobody saw the end of that attempt's job."""
    return task.attempts.filter(number=attempt, reason="node_lost").exists()


def own_log(task: Task, log: Path) -> Path:
    """The task's log; a copy of it if the last attempt was lost, whose job may still write there."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and was_lost(task, task.attempt - 1):
        aside = log.with_name(f"{LOG}.{task.attempt}")
        shutil.copyfile(log, aside)
        aside.replace(log)
    log.touch()
    return log


def _copy(source: str, target: str) -> str:
    """Copy a file; one that is just being written or renamed away is passed over."""
    if not source.endswith(".part"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(source, target)
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
