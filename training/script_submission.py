"""From what a user asks for to an accepted script."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from registry import arrays, store, submission, supply, uploads
from registry.errors import Problem
from registry.models import Task
from registry.resources import Resources
from training import script_text
from training.script_files import script_path
from training.submission import refuse_too_large

INLINE = 8 * 1024  # bytes of a script that the row itself keeps
OUTPUTS = ("stdout", "stderr")


def submit(user: Any, asked: Mapping[str, Any], **extra: Any) -> Task:
    """Accept a script whose every part was checked; the head, if it is an array.

    `extra` goes into the parameters: the names of the output files, the older routes' words.
    Raises Problem with the fields.
    """
    content = script_text.checked(asked["script"])
    lane, needs = choose_resources(asked["lane"], asked.get("resources", {}))
    refuse_too_large(lane, needs, supply.known())
    refuse_output_names(asked["files"], extra)
    common = submission.common(user, asked)
    indexes = arrays.parse(asked["array"]) if "array" in asked else None
    sha256 = hashlib.sha256(content).hexdigest()
    is_short = len(content) <= INLINE
    shown = content if is_short else content[: INLINE // 2]
    aside = None if is_short else _write_aside(content)
    try:
        with transaction.atomic():
            files = _held_uploads(user, asked["files"])
            task = submission.accept(
                **common,
                kind="script",
                lane=lane,
                cpus=needs.cpus,
                gpus=needs.gpus,
                memory=needs.memory,
                gpu_memory=needs.gpu_memory,
                template=f"script {asked['name'] or sha256[:16]}"[:120],
                params={
                    "script": shown.decode("utf-8", "ignore"),
                    "script_size": len(content),
                    "script_sha256": sha256,
                    "env": asked["env"],
                    "files": files,
                    "uploads": dict.fromkeys(files.values(), True),
                    **extra,
                },
                array=indexes,
            )
            if aside is not None:
                target = script_path(task)
                target.parent.mkdir(parents=True, exist_ok=True)
                aside.replace(target)
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)
    return task


def choose_resources(asked: str, given: Mapping[str, int]) -> tuple[str, Resources]:
    """The lane and what is asked for; `auto` is the GPU lane for who wants a GPU."""
    lane = asked
    if asked == "auto":
        lane = "gpu" if given.get("gpus") else "cpu"
    gpus = given.get("gpus", 1 if lane == "gpu" else 0)
    if (gpus > 0) != (lane == "gpu"):
        text = "the lane gpu needs one GPU or more, and the lane cpu has none"
        raise Problem("invalid", text, errors={"resources.gpus": [text]})
    memory, gpu_memory = given.get("memory", 0), given.get("gpu_memory", 0)
    if gpu_memory and not gpus:
        text = "needs a GPU: ask for gpus, or for the lane gpu"
        errors = {"resources.gpu_memory": [text]}
        raise Problem("invalid", f"resources.gpu_memory: {text}.", errors=errors)
    return lane, Resources(given.get("cpus", 1), gpus, memory, gpu_memory)


def refuse_output_names(files: Mapping[str, str], extra: Mapping[str, Any]) -> None:
    """Raise Problem where an input would stand in the place of an output."""
    outputs = {extra.get(name) or name for name in OUTPUTS}
    for name in files:
        if name in outputs:
            text = "is the name of a file that the output goes to"
            raise Problem(
                "invalid", f"{name} {text}.", errors={f"files.{name}": [text]}
            )
        clash = [one for one in files if one.startswith(f"{name}/")]
        if clash:
            text = f"is a file, and {clash[0]!r} needs a directory of that name"
            raise Problem(
                "invalid", f"{name} {text}.", errors={f"files.{name}": [text]}
            )


def _held_uploads(user: Any, files: Mapping[str, str]) -> dict[str, str]:
    """Their ids, once each is seen to be sealed; they cannot go before the commit."""
    found = {}
    for name, pk in files.items():
        try:
            found[name] = str(uploads.find_dataset(user, pk).pk)
        except Problem as problem:
            errors = {f"files.{name}": [problem.detail]}
            raise Problem(
                problem.code,
                problem.detail,
                errors=errors,
                retry_after=problem.retry_after,
            ) from None
    return found


def _write_aside(content: bytes) -> Any:
    path = store.aside()
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path
