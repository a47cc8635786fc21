"""Two hosts beside this one: one is cut off for a minute, with a training on it, and comes back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos import hosts, services
from tests.chaos.run import standing
from tests.chaos.watched import Watched

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
CUT = 60.0  # seconds
AGAIN_WITHIN = 45.0  # seconds


def test_a_host_that_is_cut_off_writes_nothing_and_comes_back(tmp_path: Path) -> None:
    if reason := hosts.reason_why_not():
        pytest.skip(reason)
    try:
        with standing(tmp_path, "redis", 18_170, small=False) as (stack, _):
            try:
                stack.start(second=False)
                with hosts.standing(stack, "left", "right") as two:
                    pull_and_plug(Watched(stack), two)
            finally:
                stack.close()
            assert stack.leftovers() == []
    except services.NotHere as reason:
        pytest.skip(str(reason))


def pull_and_plug(watched: Watched, two: dict[str, hosts.Host]) -> None:
    # Only the two hosts take work.
    watched.stack.ask("POST", "/api/v1/nodes/cpu@one/drain", json={})
    watched.submit("one", steps=600)
    watched.until_steps("one", 5)
    first = watched.row("one")["node"]
    cut = two[first.removeprefix("cpu@")]
    cut.pull()
    began = time.monotonic()
    try:
        watched.stack.until(
            lambda: [one for one in watched.entries("one") if one.attempt == 2],
            "it runs again elsewhere",
            AGAIN_WITHIN,
        )
        assert watched.row("one")["node"] not in (first, "cpu@one")
        time.sleep(max(0.0, began + CUT - time.monotonic()))
    finally:
        cut.plug()
    both = {f"cpu@{name}" for name in two}
    watched.stack.until(
        lambda: both <= set(watched.stack.nodes_up("cpu")), "both hosts are up", 60
    )
    names = [f"later-{number}" for number in range(3)]
    for name in names:
        watched.submit(name, steps=20)
    watched.stack.until(
        lambda: first in {watched.row(name)["node"] for name in names},
        "the host that came back takes work",
        60,
    )
    assert watched.verdict() == []
