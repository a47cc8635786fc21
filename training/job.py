"""What runs inside the job process; it knows nothing of Django, the database or the broker."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from registry import recipes
from registry.errors import Problem
from registry.forks import die_with_parent
from training import marks
from training.context import Context, Stopped
from training.lease import Lease
from training.wishes import Wishes

PROBLEM_REASONS = {
    "bad_data": "bad_data",
    "unknown_dataset": "bad_data",
    "bad_params": "bad_params",
    "invalid": "bad_params",
    "unknown_recipe": "bad_params",
}
KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
KEPT_PREFIXES = (
    "OMP_",
    "MKL_",
    "CUDA_",
    "NVIDIA_",
    "NCCL_",
    "PYTORCH_",
    "COMPASS_JOB_",
)


def main(spec: Mapping[str, Any], reports: Connection, pipe: Connection) -> None:
    """Run one attempt of a training, and tell the supervisor how it went."""
    _enter(spec)
    wishes, lock = Wishes(), threading.Lock()
    wishes.hear_signal()

    def report(event: Mapping[str, Any]) -> None:
        try:
            with lock:
                reports.send_bytes(json.dumps(event, allow_nan=True).encode())
        except OSError:
            wishes.stop()  # nobody listens any more

    lease = Lease(pipe, spec["leased"])
    signal.signal(signal.SIGCONT, lease.woke)
    others = {
        b"check": lambda: report({"event": "alive"}),
        b"checkpoint": wishes.save,
    }
    args = (wishes.stop, others)
    threading.Thread(target=lease.listen, args=args, daemon=True).start()
    lease.wait()
    report(_run(spec, report, wishes))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by the interpreter's way out: threads of libraries may hang there.
    os._exit(0)


def _run(spec: Mapping[str, Any], report: Any, wishes: Wishes) -> dict[str, Any]:
    try:
        recipe = recipes.get(spec["recipe"])
        params = recipe.validate(spec["params"])
        context = Context(
            checkpoints=Path(spec["checkpoints"]),
            output=Path(spec["output"]),
            scratch=Path(spec["scratch"]),
            device=spec["device"],
            threads=spec["threads"],
            resume=spec["resume"],
            report=report,
            should_stop=wishes.should_stop,
            should_save=wishes.should_save,
        )
        _use_threads(context.threads)
        _print(f"Training {recipe.name} with {params.model_dump_json()}")
        recipes.load(recipe.fit)(params, Path(spec["dataset"]), context)
    except Stopped:
        _print("Stopped as asked.")
        return {"event": "stopped", "by": "signal" if wishes.is_signalled else "wish"}
    except BaseException as error:
        traceback.print_exc()
        reason, message = explain(error)
        return {"event": "failed", "reason": reason, "message": message}
    _print("Done.")
    return {"event": "completed"}


def explain(error: BaseException) -> tuple[str, str]:
    """The reason code and the sentence for what ended a training."""
    text = str(error).strip() or "no more words were given"
    if isinstance(error, Problem):
        return PROBLEM_REASONS.get(error.code, "error"), text
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return "out_of_memory", f"The memory did not suffice: {text}."
    if type(error).__name__ == "OutOfMemoryError":
        return "out_of_memory", f"The GPU's memory did not suffice: {text}."
    if _is_full(error, text):
        return "disk_full", f"The disk is full: {text}."
    return "error", f"{type(error).__name__}: {text}"


def _is_full(error: BaseException, text: str) -> bool:
    """Whether the disk is; libraries in other languages tell it in words alone."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(f"(os error {n})" in text for n in (errno.ENOSPC, errno.EDQUOT))


def _enter(spec: Mapping[str, Any]) -> None:
    """Leave the launcher behind: own group, own log, own environment."""
    os.setsid()
    marks.put(spec["mark"])
    if affinity := set(spec["affinity"]) & os.sched_getaffinity(0):
        os.sched_setaffinity(0, affinity)
    die_with_parent(os.getppid())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    log = os.open(spec["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    for target in (1, 2):
        os.dup2(log, target)
    os.close(log)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False, errors="replace")
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="replace")
    for name in list(os.environ):
        if name not in KEPT_ENVIRONMENT and not name.startswith(KEPT_PREFIXES):
            del os.environ[name]
    os.environ.update(spec["environment"])
    os.chdir(spec["scratch"])
    random.seed()


def _use_threads(count: int) -> None:
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
