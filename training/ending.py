"""The one final verb of an attempt, from how its job ended and what was wished."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import (
    InterfaceError,
    OperationalError,
    close_old_connections,
    transaction,
)

from registry import publish, trees
from registry.crashpoints import crashpoint
from registry.errors import Problem
from registry.models import Stale, Task
from registry.publish import Published
from training import script_ending
from training.job import explain
from training.launcher import DIED
from training.lease import SILENT

if TYPE_CHECKING:
    from training.launcher import Job
    from training.supervisor import Supervisor

log = logging.getLogger(__name__)

OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
AWAY = (OperationalError, InterfaceError)
RETRY_EVERY = 1.0  # seconds, while the database is away
RETRIES = 60


def write(supervisor: Supervisor, job: Job) -> None:
    """Say how the attempt ended; a stale attempt says nothing."""
    task, spec = supervisor.task, supervisor.spec
    if supervisor.wish != "abandon":
        try:
            insist(lambda: supervisor.reports.write(task))
            if task.kind == "script":
                script_ending.keep_files(task, spec)
            published = _published(supervisor)
            crashpoint("published-before-complete")
            insist(lambda: _verb(supervisor, job, published))
        except Stale as stale:
            log.warning("%s", stale)
        except AWAY:
            raise
        except Exception as error:
            give_up(task, error)  # else it would be running until it counts as lost
    crashpoint("ended-before-clean-up")
    trees.remove(Path(spec["scratch"]).parent)


def give_up(task: Task, error: Exception) -> None:
    """Say what kept the supervisor from launching or watching the job."""
    log.exception("Task %s could not be supervised", task.pk, exc_info=error)
    reason, message = explain(error)
    if isinstance(error, AWAY):
        reason, message = "node_lost", "The database was away for too long."
    if isinstance(error, DIED):
        reason, message = "node_lost", "What jobs are started by died again and again."
    if isinstance(error, Problem) and error.code == "unknown_dataset":
        reason = "bad_data"
    try:
        insist(lambda: task.fail(reason, message))
    except Stale as stale:
        log.warning("%s", stale)


def _published(supervisor: Supervisor) -> Published | Exception | None:
    """The finished model in the store, or why it cannot stand there."""
    if (supervisor.reports.end or {}).get("event") != "completed":
        return None
    try:
        return publish.prepare(Path(supervisor.spec["output"]))
    except (OSError, Problem) as error:
        return error


def _verb(
    supervisor: Supervisor, job: Job, published: Published | Exception | None
) -> None:
    task, end = supervisor.task, supervisor.reports.end or {}
    facts: dict[str, Any] = {
        "exit_code": job.exit_code,
        "signal": job.signal,
        "peak_memory": supervisor.peak_memory or None,
        "log_end": _size(Path(supervisor.spec["log"])),
    }
    facts |= script_ending.facts(end)
    task.refresh_from_db(fields=["cancel_requested_at"])
    if supervisor.wish == "cancel" or task.cancel_requested_at:
        task.cancel(**facts)
    elif script_ending.is_its_own(supervisor):
        script_ending.write(task, end, facts)
    elif isinstance(published, Published):
        _complete(task, published, facts)
    elif published is not None:
        task.fail(*explain(published), **facts)
    elif end.get("event") == "failed":
        task.fail(end["reason"], end["message"], **facts)
    elif supervisor.wish == "time_limit":
        text = f"It ran longer than its limit of {task.time_limit} s."
        task.fail("time_limit", text, **facts)
    elif supervisor.wish == "hung":
        task.fail("hung", supervisor.hung, **facts)
    elif supervisor.wish == "pause":
        task.pause(**facts)
    elif supervisor.wish == "move":
        text = f"{supervisor.node.name} is drained; it goes on elsewhere."
        task.release("drained", text, **facts)
    elif supervisor.wish == "release":
        text = f"{supervisor.node.name} was stopped in good order."
        task.release("worker_stopped", text, **facts)
    elif end.get("by") == "signal":
        text = "A signal from outside asked the job to stop; it left a checkpoint."
        task.release("worker_stopped", text, **facts)
    elif end.get("event") == "exited":  # a script that no wish of ours ended
        text = "A signal from outside asked the script to stop."
        task.release("worker_stopped", text, **facts)
    elif end.get("event") == "stopped" or job.exit_code == SILENT:
        text = "Its worker stood still or was cut off, so the job ended itself."
        task.release("node_lost", text, **facts)
    else:
        task.fail(*_unforeseen(job), **facts)


def _size(log_file: Path) -> int:
    """Its bytes; a script may have removed it."""
    try:
        return log_file.stat().st_size
    except FileNotFoundError:
        return 0


def _complete(task: Task, published: Published, facts: dict[str, Any]) -> None:
    name = task.params.get("model_name") or task.params["recipe"]
    try:
        with transaction.atomic():
            version = publish.register(
                published,
                task,
                name,
                dataset_sha256=task.params.get("dataset_sha256", ""),
            )
            crashpoint("registered-before-complete")
            result = {
                "model": version.model.name,
                "version": version.number,
                "digest": version.digest,
                "metrics": version.metrics,
            }
            task.complete(result, **facts)
    except Stale:
        task.refresh_from_db()
        if not task.cancel_requested_at:
            raise
        task.cancel(**facts)


def _unforeseen(job: Job) -> tuple[str, str]:
    if job.signal is not None:
        name = signal.Signals(job.signal).name
        reason = "killed" if job.signal in OUTSIDE else "error"
        return reason, f"The job process ended by {name}, which Compass did not send."
    return "killed", f"The job process ended with code {job.exit_code} and no word."


def insist(act: Callable[[], Any]) -> Any:
    """Do it, and again while the database is away for a moment."""
    for attempt in range(RETRIES):
        try:
            return act()
        except AWAY as error:
            if attempt == RETRIES - 1:
                raise
            log.warning("The database is away: %s", error)
            close_old_connections()
            time.sleep(RETRY_EVERY)
    return None
