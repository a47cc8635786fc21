"""A worker that is frozen for a minute and then goes on can write nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import psutil
import pytest

from tests.chaos.watched import Watched, node_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
FROZEN = 60.0  # seconds
AGAIN_WITHIN = 45.0  # seconds


@pytest.mark.parametrize("part", ["worker", "worker, launcher and job"])
def test_a_frozen_worker_writes_nothing_after_its_task_began_again(
    begin: Callable[..., Watched], part: str
) -> None:
    watched = begin(second=True)
    watched.submit("one", steps=400)
    watched.until_steps("one", 5)
    row = watched.row("one")
    (worker,) = watched.stack.find(node_of(row))
    frozen = [worker]
    if part != "worker":
        frozen += worker.children(recursive=True)
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        watched.stack.until(
            lambda: [one for one in watched.entries("one") if one.attempt == 2],
            "it runs again",
            AGAIN_WITHIN,
        )
        time.sleep(max(0.0, began + FROZEN - time.monotonic()))
    finally:
        for process in frozen:
            try:
                process.send_signal(signal.SIGCONT)
            except psutil.NoSuchProcess:
                continue
    again = watched.row("one")
    assert again["node"] != row["node"]
    # It lives on as a node, and takes work again.
    watched.stack.until(lambda: len(watched.stack.nodes_up("cpu")) == 2, "both up", 60)
    for number in range(4):
        watched.submit(f"later-{number}", steps=20)
    names = [f"later-{number}" for number in range(4)]
    watched.stack.until(
        lambda: row["node"] in {watched.row(name)["node"] for name in names},
        "the thawed worker takes work",
        60,
    )
    assert watched.verdict() == []
