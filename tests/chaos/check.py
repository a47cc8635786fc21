"""The checker: what the rows and the journal say together; each finding is one sentence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.chaos.journal import Entry
from tests.chaos.load import FINAL, Accepted
from training import marks
from training.scripts import groups

KINDS = ("lost", "doubled", "overlapping", "leaked", "stuck")
# How a script may end without anybody's wish: once begun it is not run again.
# One whose job process the nemesis froze is `hung`, though its last line may be written.
NOT_AGAIN = frozenset({"node_lost", "worker_stopped", "killed", "disk_full", "hung"})
# What the faults themselves may bring about, where no try is left or none is allowed.
FORGIVEN = frozenset({"disk_full"})
CGROUPS = Path("/sys/fs/cgroup")


@dataclass
class Findings:
    """What is wrong, by kind. All must be empty."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    overlapping: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        return {kind: len(getattr(self, kind)) for kind in KINDS}

    @property
    def all(self) -> list[str]:
        return [f"{kind}: {text}" for kind in KINDS for text in getattr(self, kind)]


@dataclass(frozen=True)
class Evidence:
    """What the REST routes told of one task when all had settled."""

    row: dict[str, Any]
    attempts: list[dict[str, Any]]
    versions: int


def judge(
    accepted: list[Accepted],
    evidence: dict[int, Evidence],
    journal: list[Entry],
    found: Findings,
) -> None:
    """Hold every accepted task against its row and its part of the journal."""
    entries: dict[int, list[Entry]] = defaultdict(list)
    for entry in journal:
        entries[entry.task].append(entry)
    for one in accepted:
        seen = evidence.get(one.task)
        if seen is None:
            found.lost.append(f"task {one.task} was accepted and has no row")
            continue
        _judge_row(one, seen, found)
        _judge_journal(one, seen, entries.pop(one.task, []), found)
    for task in entries.keys() - {one.task for one in accepted}:
        found.doubled.append(f"task {task} ran, but nobody submitted it")


def _judge_row(one: Accepted, seen: Evidence, found: Findings) -> None:
    row, name = seen.row, f"task {one.task}"
    if row["state"] not in FINAL:
        found.stuck.append(f"{name} is {row['state']}: {row['message']}")
        return
    forgiven = FORGIVEN if one.kind == "train" else NOT_AGAIN
    if row["state"] == "failed" and row["reason"] not in forgiven:
        found.lost.append(f"{name} failed ({row['reason']}): {row['message']}")
    if row["state"] == "cancelled" and not one.may_be_cancelled:
        found.lost.append(f"{name} is cancelled, and nobody asked for it")
    was_cancelled = one.wish == "cancel" and not one.may_be_retried
    if was_cancelled and row["state"] != "cancelled":
        text = f"{name} is {row['state']} after its cancel was accepted"
        found.lost.append(f"{text} ({row['reason']}: {row['message']})")
    expected = 1 if row["state"] == "completed" and one.kind == "train" else 0
    if seen.versions != expected:
        kind = found.doubled if seen.versions > expected else found.lost
        kind.append(f"{name} is {row['state']} with {seen.versions} model versions")
    live = [a["number"] for a in seen.attempts if a["finished_at"] is None]
    if live:
        found.leaked.append(f"{name} is {row['state']} with attempts {live} alive")
    if [a["number"] for a in seen.attempts] != list(range(1, row["attempt"] + 1)):
        found.lost.append(f"{name} has a gap in its attempts")


def _judge_journal(
    one: Accepted, seen: Evidence, entries: list[Entry], found: Findings
) -> None:
    name = f"task {one.task}"
    runs: dict[int, list[Entry]] = defaultdict(list)
    latest = 0
    for entry in entries:
        if entry.attempt < latest:
            found.overlapping.append(
                f"{name}: attempt {entry.attempt} wrote {entry.what} {entry.step} at "
                f"{entry.at:.2f} after attempt {latest} had begun"
            )
        latest = max(latest, entry.attempt)
        runs[entry.attempt].append(entry)
    for number, run in runs.items():
        if len({entry.pid for entry in run}) > 1:
            found.doubled.append(f"{name}: attempt {number} ran in two processes")
        steps = [entry.step for entry in run if entry.what == "step"]
        begin = run[0].step
        if steps != list(range(begin, begin + len(steps))):
            found.doubled.append(f"{name}: attempt {number} took the steps {steps}")
    for (_, before), (number, after) in pairwise(sorted(runs.items())):
        if one.kind == "script":  # a user's retry
            continue
        last = before[0].step + sum(entry.what == "step" for entry in before)
        # Between a step and its checkpoint a kill costs that one step, and no other.
        if not last - 1 <= after[0].step <= last:
            kind = found.lost if after[0].step < last else found.doubled
            kind.append(
                f"{name}: attempt {number} began at {after[0].step}, not at {last}"
            )
    if seen.row["state"] != "completed" or one.kind == "array":
        return
    done = {entry.step for entry in entries if entry.what == "step"}
    if done != set(range(one.steps)):
        found.lost.append(f"{name} completed with {len(done)} of {one.steps} steps")
    last_run = runs[max(runs)] if runs else []
    if max(runs, default=0) != seen.row["attempt"]:
        found.doubled.append(f"{name} ran again after it had completed")
    if not last_run or last_run[-1].what != "end":
        found.lost.append(f"{name} completed, but its last run did not end")


def judge_nodes(nodes: list[dict[str, Any]], found: Findings) -> None:
    """With nothing placed, nothing may be used."""
    for node in nodes:
        if node["running"] or any(node["used"].values()):
            found.leaked.append(f"{node['name']} still counts {node['used']} as used")


def judge_machine(data: Path, leftovers: list[str], found: Findings) -> None:
    """After the end: no process, no socket, no control group, no file that no row names."""
    found.leaked += [f"process {one}" for one in leftovers]
    found.leaked += [f"socket {one}" for one in data.rglob("*.sock")]
    files = data / "files"
    found.leaked += [f"file {one}" for one in (files / "aside").glob("*")]
    found.leaked += [f"directory {one}" for one in files.glob("tasks/*/attempt-*")]


def control_groups(data: Path, nodes: Iterable[str]) -> list[str]:
    """Those that jobs of these nodes of this installation left."""
    found = []
    for node in nodes:
        prefix = f"{marks.of_node(f'{data} {node}') >> marks.JOB_BITS:x}"
        found += CGROUPS.rglob(f"{groups.PREFIX}{prefix}*")
    return [str(path) for path in found if path.is_dir()]
