"""Users: they submit, cancel, pause, resume, retry and change priorities, and remember the answers."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.stack import Stack

FINAL = frozenset({"completed", "failed", "cancelled"})
DATASET = "bindingdb_sample"
MOST_LIVE = 6  # of one user
# Each line is one write of a file opened for appending, as in tests/chaos/journal.py.
SCRIPT = """say() {
  printf '{"at": %s, "task": %d, "attempt": %d, "pid": %d, "what": "%s", "step": %d}\\n' \\
    "$(cut -d" " -f1 /proc/uptime)" \\
    "$COMPASS_TASK_ID" "$COMPASS_ATTEMPT" $$ "$1" "$2" >> "$JOURNAL"
}
say start 0
for ((step = 0; step < STEPS; step++)); do sleep 0.1; say step $step; done
say end STEPS
"""


@dataclass
class Accepted:
    """One task as its user knows it. `wish` is the last one that was answered with yes."""

    task: int
    key: str
    steps: int
    kind: str = "train"  # or script, or array: the head of scripts
    wish: str = ""
    may_be_cancelled: bool = False
    # A retry without an answer: a frozen web may carry it out after a later cancel.
    may_be_retried: bool = False
    ended: bool = field(default=False, compare=False)


class User(threading.Thread):
    """Does one thing after the other, by a chance of its own, until told to stop."""

    def __init__(
        self, stack: Stack, seed: int, number: int, stop: threading.Event
    ) -> None:
        super().__init__(name=f"user-{number}", daemon=True)
        self._stack, self._stop_asked = stack, stop
        self._chance = random.Random(f"{seed}-user-{number}")
        self._prefix, self._count = f"chaos-{seed}-{number}", 0
        self.accepted: dict[int, Accepted] = {}
        self.doubled: list[str] = []  # keys that gave two tasks

    def run(self) -> None:
        while not self._stop_asked.wait(self._chance.uniform(0.1, 0.8)):
            live = [one for one in self.accepted.values() if not one.ended]
            if len(live) < MOST_LIVE and self._chance.random() < 0.6:
                self._submit()
            elif live:
                self._meddle(self._chance.choice(live))

    # Wishes

    def _submit(self) -> None:
        self._count += 1
        key = f"{self._prefix}-{self._count}"
        steps = self._chance.randint(3, 40)
        if self._chance.random() < 0.3:
            return self._submit_script(key, steps)
        body = {
            "recipe": "journal",
            "dataset": DATASET,
            "name": key,
            "lane": "cpu",
            "model_name": key,
            "priority": self._chance.randint(-2, 2),
            "max_retries": 20,
            "resources": {"cpus": self._chance.choice([1, 1, 1, 2]), "memory": 2**20},
            "params": {
                "steps": steps,
                "pause": self._chance.choice([0.02, 0.1, 0.3]),
                "linger": self._chance.choice([0.0, 0.0, 0.3]),
                "seed": self._chance.randint(0, 2**31 - 1),
            },
        }
        times = 2 if self._chance.random() < 0.2 else 1  # an impatient double click
        for _ in range(times):
            self._insist("/training/tasks", body, Accepted(0, key, steps))
        return None

    def _submit_script(self, key: str, steps: int) -> None:
        """A script, or an array of them, perhaps after the end of an earlier one."""
        text = SCRIPT.replace("STEPS", str(steps))
        body = {
            "script": text,
            "name": key,
            "env": {"JOURNAL": str(self._stack.journal)},
            "resources": {"cpus": 1, "memory": 64 * 2**20},
        }
        kind = "script"
        if self._chance.random() < 0.3:
            kind, body["array"] = "array", "0-3%2"
        earlier = [one for one in self.accepted.values() if one.kind != "train"]
        if earlier and self._chance.random() < 0.5:
            one = self._chance.choice(earlier)
            body["depends_on"] = {"afterany": [str(one.task)]}
        self._insist("/scripts", body, Accepted(0, key, steps, kind))

    def _insist(self, path: str, body: dict[str, Any], new: Accepted) -> None:
        """Submit until the answer is known: the key makes the repetition safe."""
        key = new.key
        while True:
            answer = self._ask("POST", path, json=body, key=key)
            if answer is not None and answer.status_code == 202:
                task = int(answer.json()["id"])
                known = [one for one in self.accepted.values() if one.key == key]
                if known and known[0].task != task:
                    self.doubled.append(f"{key}: tasks {known[0].task} and {task}")
                new.task = task
                self.accepted.setdefault(task, new)
                return
            if answer is not None and answer.status_code not in (409, 429):
                raise AssertionError(f"refused: {answer.text[:500]}")
            time.sleep(0.3)

    def _meddle(self, one: Accepted) -> None:
        row = self.look(one)
        if row is None:
            return
        wish = self._chance.choice(
            ["cancel", "pause", "pause", "resume", "resume", "priority", "look", "look"]
        )
        if row["state"] == "paused":
            wish = "resume"
        elif row["state"] in ("failed", "cancelled") and self._chance.random() < 0.5:
            wish = "retry"
        if wish == "priority":
            body = {"priority": self._chance.randint(-5, 5)}
            self._ask("PATCH", f"/tasks/{one.task}", json=body)
        elif wish != "look":
            self.wish(one, wish)

    def wish(self, one: Accepted, wish: str) -> bool:
        """Ask it once; whether the answer was yes."""
        if wish == "cancel":
            one.may_be_cancelled = True
        elif wish == "retry":
            one.ended, one.wish = False, ""
        answer = self._ask("POST", f"/tasks/{one.task}/{wish}", json={})
        if answer is None or answer.status_code != 202:
            one.may_be_retried |= wish == "retry" and answer is None
            return False
        one.wish = wish
        return True

    def look(self, one: Accepted) -> dict[str, Any] | None:
        answer = self._ask("GET", f"/tasks/{one.task}")
        if answer is None or answer.status_code != 200:
            return None
        row: dict[str, Any] = answer.json()
        # One in four that ended is still looked at, for it may be retried.
        one.ended = row["state"] in FINAL and self._chance.random() < 0.75
        return row

    def _ask(
        self, method: str, path: str, *, key: str = "", **options: Any
    ) -> httpx.Response | None:
        """An answer, or None where there is none or the server broke off."""
        headers = {"Idempotency-Key": key} if key else {}
        try:
            answer = self._stack.ask(
                method, f"/api/v1{path}", headers=headers, wait=15, **options
            )
        except (httpx.HTTPError, OSError):
            return None
        return None if answer.status_code >= 500 else answer
