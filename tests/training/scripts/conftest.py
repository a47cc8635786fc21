from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from training import marks, remains
from training.launcher import Job, Launcher
from training.scripts import environment

PLACE = f"tests of scripts by {os.getpid()}"  # others may test at the same time
MIB = 1024**2


class Run:
    """One run of a script in a job process of its own, without a supervisor."""

    def __init__(self, launcher: Launcher, home: Path, script: str, **changes: Any):
        for name in ("work", "scratch"):
            (home / name).mkdir(parents=True, exist_ok=True)
        self.home, self.work = home, home / "work"
        path = home / "script"
        path.write_text(script)
        self.mark = marks.of_job(PLACE, abs(hash(str(home))), 1)
        self.spec: dict[str, Any] = {
            "kind": "script", "task": 7, "attempt": 1, "mark": self.mark,
            "name": "test", "lane": "cpu", "host": "one", "script": str(path), "options": [],
            "home": str(home), "work": str(self.work),
            "scratch": str(home / "scratch"), "log": str(home / "log.txt"),
            "log_limit": 64 * MIB, "disk_limit": 0, "stdout": "stdout",
            "stderr": "stderr", "named": [], "env": {}, "cpus": 1, "memory": 0,
            "gpus": [], "affinity": [], "inputs": {}, "groups": True,
            "leased": time.monotonic(), **changes,
        }  # fmt: skip
        self.spec["environment"] = environment.words(self.spec)
        self.frames: list[dict[str, Any]] = []
        self.job: Job = launcher.launch(self.spec)
        self.job.renew(self.spec["leased"])

    @property
    def log(self) -> str:
        return (self.home / "log.txt").read_text(errors="replace")

    @property
    def end(self) -> dict[str, Any]:
        return self.frames[-1]

    def text(self, name: str = "stdout") -> str:
        path = self.work / name
        return path.read_text(errors="replace") if path.exists() else ""

    def until(self, done: Callable[[], Any], seconds: float = 15) -> Any:
        """Wait for other processes, which no test can hurry."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.frames += self.job.frames(0.02)
            if value := done():
                return value
        raise AssertionError(f"not within {seconds} s\n{self.log}")

    def wait(self, seconds: float = 20) -> dict[str, Any]:
        """Its last report, after its end."""
        self.until(lambda: self.job.is_over, seconds)
        self.frames += self.job.frames(0)
        return self.end

    def living(self) -> list[int]:
        return remains.living(self.mark)


@pytest.fixture
def run(launcher: Launcher, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def run(script: str, **changes: Any) -> Run:
        one = Run(launcher, tmp_path / f"run-{len(runs)}", script, **changes)
        runs.append(one)
        return one

    yield run
    for one in runs:
        remains.end(one.mark)
        one.until(lambda one=one: one.job.is_over)
        one.job.close()
