"""Processes that end with their parent, also where that was quicker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The parent ends while its child is not yet so far that it binds itself to it.
LATE = """
import os, select, sys
from registry.forks import die_with_parent
parent = os.getpid()
gone, alive = os.pipe()
if os.fork():
    os._exit(0)
os.close(alive)
os.read(gone, 1)  # until the parent has ended
while os.getppid() == parent:
    pass
die_with_parent({parent})
os.write(1, b"it lives on")
"""

WORKER = """
import multiprocessing, os

def late():
    while os.getppid() == multiprocessing.parent_process().pid:
        pass
    import compass.wsgi
    os.write(1, b"it lives on")

multiprocessing.get_context("fork").Process(target=late).start()
os._exit(0)
"""


@pytest.mark.parametrize(("parent", "told"), [("parent", b""), ("", b"it lives on")])
def test_a_child_whose_parent_has_ended_before_ends_too(
    parent: str, told: bytes
) -> None:
    """Without the number of its parent it cannot know."""
    command = [sys.executable, "-c", LATE.format(parent=parent)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE, timeout=60,
        check=True,
    )  # fmt: skip
    assert done.stdout == told


def test_a_web_worker_whose_server_was_killed_while_it_began_ends(
    tmp_path: Path,
) -> None:
    """It would hold the lock of the data directory, so that no stack could start."""
    variables = {**os.environ, "COMPASS_STACK": "1", "COMPASS_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WORKER], cwd=ROOT, env=variables, stdout=subprocess.PIPE,
        timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == b""
