"""The process that stands by: what it forks, and how it ends and is made anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> Any:
    """What another program prints, as JSON."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "compass.settings"},
        capture_output=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return json.loads(done.stdout)


PROGRAM = """
    import json, os, signal, socket, sys
    import django
    django.setup()
    from inference import spare as module

    def ask(n):
        line = spare.hand({"n": n})
        line.settimeout(150)
        pid = int(line.recv(64))
        return line, [pid, *json.loads(line.recv(64))]

    def kill():
        os.kill(spare.pid, signal.SIGKILL)
        os.waitid(os.P_PID, spare.pid, os.WEXITED | os.WNOWAIT)

    spare = module.Spare.make("tests.inference.told_hand.work")
    first, said = spare.pid, []
    for n in range(3):
        line, words = ask(n)
        said.append(words)
        if n == 1:
            assert line.recv(64) == b""
        if n == 2:
            line.shutdown(socket.SHUT_WR)
            assert line.recv(64) == b""
        else:
            globals()[f"kept_{n}"] = line
    if "--lose" in sys.argv:
        kill()
        again, words = ask(0)
        assert not os.path.exists(f"/proc/{first}")
        said = [said[0], words]
    if "--stop" in sys.argv:
        now = module.time.monotonic()
        spare._monotonic = lambda: now
        line, words = ask(0)
        now += 10 * module.SILENT_AFTER
        os.kill(spare.pid, signal.SIGSTOP)
        unheard = [spare.hand({"n": 0})]
        now += 0.9 * module.SILENT_AFTER
        unheard.append(spare.hand({"n": 0}))
        assert spare.pid == first
        now += 0.2 * module.SILENT_AFTER
        again, words = ask(0)
        assert not os.path.exists(f"/proc/{first}")
        assert not [one for one in unheard if one.recv(64)]
        said = [said[0], words]
    told = [first, spare.pid, said]
    if "--again" in sys.argv:
        now = module.time.monotonic()
        spare._monotonic = lambda: now
        kill()
        told.append(spare.hand({"n": 0}) is None)
        now += module.ANEW_AFTER
        again, words = ask(0)
        told.append(words[2] == spare.pid)
    print(json.dumps(told), flush=True)
    if "--die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "compass.settings")
    monkeypatch.setenv("COMPASS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COMPASS_BATCH_PROCESSES", "2")
    return [sys.executable, "-c", textwrap.dedent(PROGRAM)]


def test_each_hand_is_forked_from_the_spare_and_its_death_is_heard(
    program: list[str],
) -> None:
    spare, _, said = run(*program[1:])
    assert [n for _, n, _, _ in said] == [0, 1, 2]
    assert {parent for _, _, parent, _ in said} == {spare}
    assert {threads for _, _, _, threads in said} == {1}
    assert len({pid for pid, _, _, _ in said}) == 3
    gone(spare)


@pytest.mark.parametrize("how", ["--lose", "--stop"])
def test_a_spare_that_dies_or_is_silent_takes_its_hands_along_and_another_begins(
    program: list[str], how: str
) -> None:
    first, second, said = run(*program[1:], how)
    assert first != second
    assert [parent for _, _, parent, _ in said] == [first, second]
    assert [threads for _, _, _, threads in said] == [1, 1]
    for pid in (first, second, *(pid for pid, *_ in said)):
        gone(pid)


def test_a_spare_that_dies_again_and_again_is_made_anew_after_a_while(
    program: list[str],
) -> None:
    *_, is_refused, is_made = run(*program[1:], "--lose", "--again")
    assert is_refused
    assert is_made


@pytest.mark.parametrize("options", [["--die"], ["--lose", "--die"]])
def test_spare_and_hands_die_with_a_worker_that_is_killed(
    program: list[str], options: list[str]
) -> None:
    process = subprocess.run(
        [*program, *options], cwd=ROOT, capture_output=True, timeout=180
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()[-2000:]
    first, second, said = json.loads(process.stdout)
    for pid in (first, second, *(pid for pid, *_ in said)):
        gone(pid)


def gone(pid: int) -> None:
    import psutil

    try:
        psutil.Process(pid).wait(20)
    except psutil.NoSuchProcess:
        return
    assert not psutil.pid_exists(pid)
