"""The real stack, started as a user starts it. Each start costs some seconds: few tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from compass.client import Compass
from compass.plan import status
from compass.trial import ROOT, TrialStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


@pytest.fixture
def environment() -> dict[str, str]:
    """Nothing of the test's own settings."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COMPASS_", "DJANGO_", "PYTEST_"))
    }


@pytest.fixture
def stack(tmp_path: Path, environment: dict[str, str]) -> Iterator[TrialStack]:
    stack = TrialStack(tmp_path / "with space", port=8431)
    stack.environment = environment
    stack.start()
    yield stack
    stack.stop()


def until(question: Callable[[], bool], seconds: float) -> bool:
    """Wait for other processes, which no injected clock can move."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if question():
            return True
        time.sleep(0.05)
    return question()


def is_ready(stack: TrialStack) -> bool:
    return status(f"{stack.url}/health/ready") == 200


def find(stack: TrialStack, words: str) -> psutil.Process | None:
    for process in stack.members():
        try:
            if words in " ".join(process.cmdline()):
                return process
        except psutil.NoSuchProcess:  # just ended; a zombie counts as that
            continue
    return None


def test_it_serves_heals_refuses_a_second_and_ends_without_a_trace(
    stack: TrialStack, environment: dict[str, str]
) -> None:
    assert is_ready(stack)
    assert (stack.data_dir / "key").stat().st_mode & 0o777 == 0o600
    with Compass(stack.url, stack.key) as client:
        assert client.tasks() == []

    second = subprocess.run(
        [sys.executable, "manage.py", "up", "--data-dir", str(stack.data_dir)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert f"process {stack.pid}" in second.stderr

    for words in (
        "-n cpu@",
        "valkey-server",
        "granian",
        "compass.front",
        "-A compass beat",
    ):
        victim = find(stack, words)
        assert victim is not None
        victim.kill()
        assert until(lambda v=victim, w=words: is_another(stack, v, w), 20), words
    assert until(lambda: is_ready(stack), 20)

    # An inference worker that has no time to remove its own socket.
    killed = find(stack, "-n inference@")
    assert killed is not None
    killed.kill()
    stack.stop()
    assert stack.child.returncode == 0
    assert stack.left() == []
    assert not (stack.data_dir / "address").exists()
    assert list(stack.data_dir.rglob("*.sock")) == []


def is_another(stack: TrialStack, victim: psutil.Process, words: str) -> bool:
    found = find(stack, words)
    return found is not None and found.pid != victim.pid


def test_nothing_outlives_a_killed_supervisor(stack: TrialStack) -> None:
    members = stack.members()
    stack.stop(signal.SIGKILL)
    assert len(members) >= 8
    # The launcher sees that it is alone once it has imported torch.
    assert until(lambda: not stack.left(), 30), stack.left()
    # And the directory is free again.
    stack.start()
    assert is_ready(stack)
