"""One run: a real stack, users, a nemesis, a time to settle, and the verdict."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.chaos import check, journal, services
from tests.chaos.check import Evidence, Findings
from tests.chaos.load import FINAL, Accepted, User
from tests.chaos.nemesis import Nemesis, plan
from tests.chaos.stack import NODES, ROOT, NotReady, Stack

USERS = 3
DISK = 512  # MiB of the small file system
LONG_AGO = 3 * 3600  # seconds; cleaning spares what is younger than an hour


@dataclass(frozen=True)
class Profile:
    """How long the faults last and how long all may take to settle, in seconds."""

    faults: float
    settle: float
    gentle: bool

    @classmethod
    def of(cls, minutes: float) -> Profile:
        gentle = minutes <= 1
        return cls(minutes * 60, 60 if gentle else 240, gentle)


def run(
    seed: int, variant: str, profile: Profile, *, port: int = 18_100, keep: bool = False
) -> dict[str, Any]:
    """The result of one run as it is printed. `keep` leaves the directory of a failed one."""
    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="compass-chaos-"))
    result: dict[str, Any] = {"seed": seed, "variant": variant, "ran": False}
    try:
        with standing(home, variant, port) as (stack, no_disk):
            found = Findings()
            faults = plan(
                seed, profile.faults, gentle=profile.gentle, has_disk=not no_disk
            )
            try:
                stack.start()
                _go(stack, seed, profile, faults, found, result)
            finally:
                deaf = stack.close()
                if keep:
                    _keep_rows(stack.data, home)
            found.stuck += [f"{name} did not end when asked to" for name in deaf]
            _clean(stack)
            check.judge_machine(stack.data, stack.leftovers(), found)
            nodes = [f"cpu@{name}" for name in NODES]
            found.leaked += check.control_groups(stack.data, nodes)
            result |= {"ran": True, **found.counts, "findings": found.all[:50]}
            result |= {"disk": no_disk or "filled"}
    except services.NotHere as reason:
        result["reason"] = str(reason)
    result["seconds"] = round(time.monotonic() - began, 1)
    if keep and result.get("findings"):
        result["directory"] = str(home)
    else:
        shutil.rmtree(home, ignore_errors=True)
    return result


def _keep_rows(data: Path, home: Path) -> None:
    """What is on the small file system goes with it; the rows are what a finding is read by."""
    for path in data.glob("*.sqlite3*"):
        shutil.copy2(path, home)


@contextlib.contextmanager
def standing(
    home: Path, variant: str, port: int = 18_100, *, small: bool = True
) -> Iterator[tuple[Stack, str]]:
    """The stack of a variant, not started, on a small file system; and why not on one."""
    data = home / "data"
    data.mkdir(mode=0o700)
    no_disk = services.mount_small(data, DISK) if small else "not asked for"
    try:
        service = services.begin(variant, home)
        try:
            yield Stack(home, service, port=port), no_disk
        finally:
            service.close()
    finally:
        if not no_disk:
            services.unmount(data)


def passed(result: dict[str, Any]) -> bool:
    """Whether a run that took place found nothing."""
    return not result["ran"] or not any(result[kind] for kind in check.KINDS)


def _go(
    stack: Stack,
    seed: int,
    profile: Profile,
    faults: list[Any],
    found: Findings,
    result: dict[str, Any],
) -> None:
    enough = threading.Event()
    users = [User(stack, seed, number, enough) for number in range(USERS)]
    nemesis = Nemesis(stack, faults, seed)
    for thread in (*users, nemesis):
        thread.start()
    time.sleep(profile.faults)
    nemesis.finish()
    enough.set()
    began = time.monotonic()
    for user in users:
        user.join(60)
    accepted = [one for user in users for one in user.accepted.values()]
    found.doubled += [text for user in users for text in user.doubled]
    found.stuck += [f"{user.name} got no answer" for user in users if user.is_alive()]
    rows = settle(stack, accepted, profile.settle)
    accepted += [one for head in accepted for one in elements(stack, head, rows)]
    result["settled"] = round(time.monotonic() - began, 1)
    entries = journal.read(stack.journal)
    check.judge(accepted, gather(stack, accepted, rows), entries, found)
    nodes = stack.ask("GET", "/api/v1/nodes").json()["results"]
    check.judge_nodes(nodes, found)
    states = [rows[one.task]["state"] for one in accepted if one.task in rows]
    result |= {
        "accepted": len(accepted),
        "states": {state: states.count(state) for state in sorted(set(states))},
        "attempts": sum(row["attempt"] for row in rows.values()),
        "journal": len(entries),
        "restarts": stack.restarts,
        "faults": dict(sorted(nemesis.done.items())),
        "missed": sum(nemesis.missed.values()),
    }


def settle(
    stack: Stack, accepted: list[Accepted], seconds: float
) -> dict[int, dict[str, Any]]:
    """Wait until every task is final, waking the paused ones; all rows as they are then."""
    deadline = time.monotonic() + seconds
    rows: dict[int, dict[str, Any]] = {}
    while True:
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            rows = read_rows(stack)
            live = [
                one
                for one in accepted
                if rows.get(one.task, {"state": "gone"})["state"]
                not in (*FINAL, "gone")
            ]
            for one in live:
                if rows[one.task]["state"] == "paused":
                    stack.ask("POST", f"/api/v1/tasks/{one.task}/resume", json={})
            if not live or time.monotonic() > deadline:
                return rows
        if time.monotonic() > deadline + 60:
            raise NotReady(f"the rows cannot be read\n{stack.last_words()}")
        time.sleep(0.5)


def read_rows(stack: Stack) -> dict[int, dict[str, Any]]:
    rows, path = {}, "/api/v1/tasks"
    while path:
        page = stack.ask("GET", path).json()
        rows.update({int(row["id"]): row for row in page["results"]})
        path = (page["next"] or "").partition(f":{stack.port}")[2]
    return rows


def elements(
    stack: Stack, head: Accepted, rows: dict[int, dict[str, Any]]
) -> list[Accepted]:
    """Those of an array, which were accepted with it; their rows join the others."""
    if head.kind != "array":
        return []
    found = stack.ask("GET", f"/api/v1/tasks?array={head.task}").json()["results"]
    rows.update({int(row["id"]): row for row in found})
    return [
        Accepted(
            int(row["id"]),
            f"{head.key}-{row['id']}",
            head.steps,
            "script",
            may_be_cancelled=head.may_be_cancelled,
        )
        for row in found
        if int(row["id"]) != head.task
    ]


def gather(
    stack: Stack, accepted: list[Accepted], rows: dict[int, dict[str, Any]]
) -> dict[int, Evidence]:
    evidence = {}
    for one in accepted:
        if one.task not in rows:
            continue
        attempts = stack.ask("GET", f"/api/v1/tasks/{one.task}/attempts").json()
        model = stack.ask("GET", f"/api/v1/models/{one.key}")
        versions = model.json()["versions"] if model.status_code == 200 else 0
        evidence[one.task] = Evidence(rows[one.task], attempts["results"], versions)
    return evidence


def _clean(stack: Stack) -> None:
    """Clean as the hourly duty would in three hours."""
    old = time.time() - LONG_AGO
    for path in (stack.data / "files").rglob("*"):
        with contextlib.suppress(OSError):
            os.utime(path, (old, old), follow_symlinks=False)
    subprocess.run(
        [sys.executable, "manage.py", "clean"],
        cwd=ROOT,
        env=stack.environment,
        check=True,
        capture_output=True,
        timeout=120,
    )


def say(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
