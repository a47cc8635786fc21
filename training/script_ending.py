"""How an attempt of a script ended: its exit code or signal, and the files that it leaves."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import jail, store
from registry.models import Stale, Task
from training.script_files import LISTED

if TYPE_CHECKING:
    from training.supervisor import Supervisor

OWN_DOING = ("out_of_memory", "disk_full")  # whatever was wished meanwhile


def keep_files(task: Task, spec: Mapping[str, Any]) -> None:
    """Show the files that the script left, instead of an earlier attempt's.

    A script may remove its directory, or put a link in its place: then it left none.
    """
    home, work = Path(spec["home"]), Path(spec["work"])
    target = store.task_path(task.pk) / "files"
    home.mkdir(parents=True, exist_ok=True)
    if target.exists() or target.is_symlink():
        before = tempfile.mkdtemp(dir=home)  # goes with the attempt's directory
        target.replace(Path(before) / "files")
    if work.is_dir() and not work.is_symlink():
        # To another parent goes only what its owner may write to; a script may have made it read-only.
        work.chmod(work.stat().st_mode | 0o700)
        work.replace(target)


def facts(end: Mapping[str, Any]) -> dict[str, Any]:
    """What the attempt keeps of the script itself, instead of its job process's."""
    if end.get("event") != "exited":
        return {}
    return {
        "exit_code": end["exit_code"],
        "signal": end["signal"],
        "peak_memory": end["peak_memory"]
        or None,  # none if it was too short to be seen
    }


def is_its_own(supervisor: Supervisor) -> bool:
    """Whether the script itself tells how it ended, and not what was wished of it."""
    end = supervisor.reports.end or {}
    if end.get("event") != "exited":
        return False
    return not end["was_asked"] or end["reason"] in OWN_DOING


def write(task: Task, end: Mapping[str, Any], attempt: dict[str, Any]) -> None:
    """Complete it, or fail it with the reason that its job process found."""
    if end["reason"]:
        return task.fail(end["reason"], end["message"], **attempt)
    names = [name for name, _ in jail.walk(store.task_path(task.pk) / "files", LISTED)]
    try:
        task.complete({"exit_code": end["exit_code"], "files": names}, **attempt)
    except Stale:
        task.refresh_from_db()
        if not task.cancel_requested_at:
            raise
        task.cancel(**attempt)
    return None
