from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compass import lock
from compass.lock import DirectoryLock, Taken, holder_of

HOLD = """
import sys
from pathlib import Path
from compass.lock import DirectoryLock
DirectoryLock(Path(sys.argv[1])).take()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_stack_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        assert holder_of(tmp_path) == other.pid
        with pytest.raises(Taken, match=rf"process {other.pid}\) already runs"):
            DirectoryLock(tmp_path).take()
        other.stdin.close()
    assert holder_of(tmp_path) == 0


def test_it_can_be_taken_again_after_its_release(tmp_path: Path) -> None:
    first = DirectoryLock(tmp_path)
    first.take()
    assert holder_of(tmp_path) == os.getpid()
    first.release()
    second = DirectoryLock(tmp_path)
    second.take()
    second.release()
    assert holder_of(tmp_path) == 0


def test_the_last_child_of_a_dead_stack_still_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = DirectoryLock(tmp_path)
    dead.take()
    os.pwrite(dead.descriptor, b"0" * 10, 0)  # nobody's number
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    with pytest.raises(Taken, match="still ending"):
        DirectoryLock(tmp_path).take()
    dead.release()


def test_without_a_file_nobody_holds_it(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "nothing") == 0
