"""What a job needs before it starts: directories, its data set and its settings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from registry import store, uploads
from registry.errors import Problem
from registry.models import Task, Upload
from training import data, script_preparation
from training.submission import refuse_other_types

LOG = "log.txt"


def prepare(task: Task, gpus: list[int]) -> dict[str, Any]:
    """Make the attempt's directories and the plain data that the job is launched with.

    Raises Problem if what it reads is gone, or is no CSV file where a training reads it.
    """
    home = store.task_path(task.pk)
    home.mkdir(parents=True, exist_ok=True)
    log = home / LOG
    log.touch()
    task.attempts.filter(number=task.attempt).update(log_start=log.stat().st_size)
    if task.kind == "script":
        return script_preparation.prepare(task, gpus, log)
    return _training(task, gpus, home, log)


def _training(task: Task, gpus: list[int], home: Path, log: Path) -> dict[str, Any]:
    attempt = home / f"attempt-{task.attempt}"
    checkpoints = home / "checkpoints"
    if task.resume_from == "start":
        shutil.rmtree(checkpoints, ignore_errors=True)
    for old in home.glob("attempt-*"):
        shutil.rmtree(old, ignore_errors=True)
    for directory in (checkpoints, attempt / "output", attempt / "scratch"):
        directory.mkdir(parents=True, exist_ok=True)
    return {
        "kind": task.kind,
        "task": task.pk,
        "recipe": task.params["recipe"],
        "params": task.params["params"],
        "dataset": str(dataset_path(task.params["dataset"])),
        "checkpoints": str(checkpoints),
        "output": str(attempt / "output"),
        "scratch": str(attempt / "scratch"),
        "log": str(log),
        "device": "cuda" if gpus else "cpu",
        "threads": task.cpus,
        "resume": task.resume_from == "checkpoint",
        "environment": {
            "CUDA_VISIBLE_DEVICES": ",".join(str(index) for index in gpus),
            "OMP_NUM_THREADS": str(task.cpus),
        },
    }


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
