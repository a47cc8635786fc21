"""Tasks of the recipe `journal` in a real stack, told apart by name, and the verdict on them."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx

from tests.chaos import check, journal
from tests.chaos.check import Findings
from tests.chaos.load import DATASET, Accepted
from tests.chaos.run import gather, settle
from tests.chaos.stack import NODES, Stack


class Watched:
    """Submits by name, looks at rows and journal, and judges the end."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.tasks: dict[str, Accepted] = {}

    def submit(self, name: str, *, cpus: int = 1, **params: Any) -> int:
        body = {
            "recipe": "journal",
            "dataset": DATASET,
            "name": name,
            "lane": "cpu",
            "model_name": name,
            "max_retries": 20,
            "resources": {"cpus": cpus, "memory": 2**20},
            "params": {"steps": 40, "pause": 0.2, **params},
        }
        headers = {"Idempotency-Key": name}
        answer = self.stack.ask(
            "POST", "/api/v1/training/tasks", json=body, headers=headers
        )
        assert answer.status_code == 202, answer.text
        task, steps = int(answer.json()["id"]), int(body["params"]["steps"])  # type: ignore[call-overload,index]
        self.tasks[name] = Accepted(task, name, steps)
        return task

    def ask(self, name: str, verb: str) -> None:
        path = f"/api/v1/tasks/{self.tasks[name].task}/{verb}"
        answer = self.stack.ask("POST", path, json={})
        assert answer.status_code == 202, answer.text

    def row(self, name: str) -> dict[str, Any]:
        """The row, or nothing while nobody answers."""
        with contextlib.suppress(httpx.HTTPError, ValueError):
            path = f"/api/v1/tasks/{self.tasks[name].task}"
            answer = self.stack.ask("GET", path)
            if answer.status_code == 200:
                row: dict[str, Any] = answer.json()
                return row
        return {"state": "unknown", "node": None, "attempt": 0}

    def until(self, name: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        self.stack.until(
            lambda: self.row(name)["state"] in states, f"{name} is {states}", seconds
        )
        return self.row(name)

    def entries(self, name: str) -> list[journal.Entry]:
        task = self.tasks[name].task
        return [one for one in journal.read(self.stack.journal) if one.task == task]

    def until_steps(self, name: str, count: int = 1, seconds: float = 60) -> None:
        def taken() -> bool:
            steps = [one for one in self.entries(name) if one.what == "step"]
            return len(steps) >= count

        self.stack.until(taken, f"{name} has taken {count} steps", seconds)

    def verdict(self, *, seconds: float = 180) -> list[str]:
        """Wait until all have ended; every one must have completed, once."""
        accepted = list(self.tasks.values())
        rows, found = settle(self.stack, accepted, seconds), Findings()
        evidence = gather(self.stack, accepted, rows)
        entries = journal.read(self.stack.journal)
        check.judge(accepted, evidence, entries, found)
        for one in accepted:
            state = rows[one.task]["state"]
            if state != "completed":
                found.lost.append(f"{one.key} is {state}: {rows[one.task]['message']}")
        nodes = self.stack.ask("GET", "/api/v1/nodes").json()["results"]
        check.judge_nodes(nodes, found)
        return found.all


def node_of(row: dict[str, Any]) -> str:
    """The harness's name of the worker that runs it: cpu or cpu-two."""
    return "cpu" if row["node"] == f"cpu@{NODES[0]}" else "cpu-two"
