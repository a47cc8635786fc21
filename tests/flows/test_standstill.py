"""Workers and jobs that stand still or meet under one name, on a real stack: never two at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.flows.conftest import ROOT, Stack
from training import marks

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

TICKS = "while :; do echo $COMPASS_ATTEMPT; sleep 0.1; done"


class Ticking:
    """A script that writes its attempt's number ten times a second, and may be run again."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        row = stack.post("/scripts", script=TICKS, max_retries=3)
        self.id = str(row["id"])
        self.until_attempt(1)

    @property
    def lines(self) -> list[str]:
        return str(
            self.stack.get(f"/tasks/{self.id}/logs?limit=1000000")["text"]
        ).split()

    @property
    def attempts(self) -> list[Any]:
        found: list[Any] = self.stack.get(f"/tasks/{self.id}/attempts")["results"]
        return found

    def until_attempt(self, number: int, seconds: float = 60) -> None:
        """Wait until that attempt or a later one has written."""
        self.stack.until(
            lambda: self.lines and int(self.lines[-1]) >= number, "it writes", seconds
        )

    def living(self, attempt: int) -> list[int]:
        node = self.attempts[0]["node"]
        place = f"{self.stack.directory} {node}"
        return marks.carriers(marks.of_job(place, int(self.id), attempt))

    def end(self) -> None:
        self.stack.post(f"/tasks/{self.id}/cancel")
        self.stack.until(
            lambda: self.stack.get(f"/tasks/{self.id}")["state"] == "cancelled", "ends"
        )
        assert self.lines == sorted(self.lines, key=int), "two attempts wrote at once"
        assert [self.living(one["number"]) for one in self.attempts] == [
            [] for _ in self.attempts
        ]


def tree(worker: psutil.Process) -> list[psutil.Process]:
    """The worker with its launcher and all that its jobs began."""
    return [worker, *worker.children(recursive=True)]


@pytest.mark.parametrize("whom", [lambda worker: [worker], tree], ids=["worker", "all"])
def test_a_worker_that_stood_still_until_it_was_lost_has_written_nothing_since(
    stack: Stack, whom: Callable[[psutil.Process], list[psutil.Process]]
) -> None:
    ticking = Ticking(stack)
    stopped = whom(stack.process("-n cpu@"))
    for one in stopped:
        one.suspend()
    try:
        stack.until(lambda: ticking.attempts[-1]["finished_at"], "it is lost", 45)
        count = len(ticking.lines)
        if len(stopped) == 1:
            assert ticking.living(1) == [], "the job has ended itself before that"
        time.sleep(5)
        assert len(ticking.lines) == count
    finally:
        for one in reversed(stopped):
            if one.is_running():
                one.resume()
    ticking.until_attempt(2)
    assert ticking.attempts[0]["reason"] == "node_lost"
    # At the latest by the next look for orphans.
    stack.until(lambda: not ticking.living(1), "nothing of it is left", 40)
    ticking.end()
    rescues = stack.get("/rescues?kind=rescue")["results"]
    assert any(one["summary"]["found"] for one in rescues)


def test_a_job_process_that_stands_still_is_hung_after_three_checks(
    stack: Stack,
) -> None:
    ticking = Ticking(stack)
    os.kill(ticking.attempts[0]["pid"], signal.SIGSTOP)
    stopped = time.monotonic()
    stack.until(lambda: ticking.attempts[0]["finished_at"], "it is found", 40)
    assert time.monotonic() - stopped > 14
    assert ticking.attempts[0]["reason"] == "hung"
    ticking.until_attempt(2)
    assert ticking.living(1) == []
    ticking.end()


def test_two_workers_of_one_name_end_as_one(stack: Stack) -> None:
    ticking = Ticking(stack)
    first = stack.process("-n cpu@")
    command = first.cmdline()
    second = subprocess.Popen(
        [sys.executable, *command[1:]],
        cwd=ROOT,
        env={**first.environ(), "COMPASS_DATA_DIR": str(stack.directory)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        stack.until(lambda: not first.is_running(), "the older one stops", 60)
        # The stack starts its own again, which takes the name back.
        second.wait(60)
        ticking.until_attempt(2)
        last = ticking.attempts[-1]["number"]
        for number in range(1, last):
            assert ticking.living(number) == []
    finally:
        second.kill()
        second.wait()
    ticking.end()
