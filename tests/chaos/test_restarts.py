"""Each part down for 0, 20 and 60 seconds, with a task in each state it may meet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from tests.chaos.watched import Watched

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
SECONDS = (0, 20, 60)
PARTS = {
    "worker": "cpu",
    "control": "control",
    "web": "web",
    "broker": "broker",
    "database": "",
}
STATES = ("waiting", "assigned", "running", "stopping", "paused")


def bring(watched: Watched) -> list[psutil.Process]:
    """One task in each state; the worker is frozen, so that `assigned` stays."""
    watched.submit("paused", steps=60)
    watched.until_steps("paused")
    watched.ask("paused", "pause")
    watched.until("paused", "paused")
    watched.submit("running", steps=100)
    watched.submit("stopping", steps=100, linger=6)
    for name in ("running", "stopping"):
        watched.until_steps(name)
    watched.ask("stopping", "pause")
    time.sleep(1)  # for the wish to reach its job
    workers = watched.stack.find("cpu")
    for worker in workers:
        worker.suspend()
    watched.submit("assigned")
    watched.until("assigned", "assigned")
    watched.submit("waiting", cpus=3)
    assert watched.row("waiting")["state"] == "pending"
    assert watched.row("stopping")["pause_requested_at"]
    return workers


def take_down(watched: Watched, part: str, seconds: float) -> None:
    if part == "database":
        watched.stack.services.cut_database(seconds, time.sleep)
    else:
        watched.stack.hold_down(PARTS[part], seconds)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("part", PARTS)
def test_no_task_in_any_state_minds_a_part_that_is_down(
    begin: Callable[..., Watched], part: str, seconds: int
) -> None:
    watched = begin()
    workers = bring(watched)
    down = threading.Thread(target=take_down, args=(watched, part, seconds))
    down.start()
    time.sleep(0.3)
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.resume()
    down.join()
    watched.stack.until(watched.stack.is_ready, "all parts are up again", 120)
    assert watched.row("paused")["state"] == "paused"
    assert set(watched.tasks) == set(STATES)
    assert watched.verdict() == []
