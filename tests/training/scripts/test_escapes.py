"""Nothing that a script begins outlives it, whatever it does to get away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.training.scripts.conftest import PLACE, Run
from training import marks, remains
from training.processes import start_ticks
from training.scripts import groups

Start = Callable[..., Run]

DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
os.closerange(0, 256)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""
COMET = """
import os, sys, time
open(sys.argv[1], "w").write("flies")
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""
PYTHON = f"{sys.executable} -S -c"
ESCAPES = {
    "a double fork into a session of its own": f"{PYTHON} '{DAEMON}' NOTE",
    "an empty environment": f"env -i {PYTHON} '{DAEMON}' NOTE",
    "nohup": "nohup bash -c 'echo $$ > NOTE; sleep 600' > /dev/null 2>&1 &",
    "another name": "(exec -a '[kworker/0:1]' sleep 600) & echo $! > NOTE",
    "setsid": "setsid sh -c 'echo $$ > NOTE; exec sleep 600' &",
    "deaf ears": "bash -c 'trap \"\" TERM HUP INT; echo $$ > NOTE; while :; do sleep 1; done' &",
    "closed files": "bash -c 'echo $$ > NOTE; exec sleep 600' <&- >&- 2>&- & disown",
    "standing still": "bash -c 'echo $$ > NOTE; kill -STOP $$' &",
    "a fork at every moment": f"{PYTHON} '{COMET}' NOTE &",
    "a background loop": "(echo $BASHPID > NOTE; while :; do (sleep 600 &) ; sleep 0.1; done) &",
}  # fmt: skip


def begun(run: Start, escape: str, tmp_path: Path, then: str, **changes: object) -> Run:
    """A script that sent a process away; it is marked, and it lives."""
    note = tmp_path / "note"
    one = run(ESCAPES[escape].replace("NOTE", str(note)) + f"\n{then}\n", **changes)
    one.until(lambda: note.exists() and note.read_text())
    return one


@pytest.mark.parametrize("groups_used", [True, False], ids=["groups", "no-groups"])
@pytest.mark.parametrize("escape", ESCAPES)
def test_the_end_of_the_script_is_the_end_of(
    run: Start, tmp_path: Path, escape: str, groups_used: bool
) -> None:
    note = tmp_path / "note"
    one = begun(
        run, escape, tmp_path, f"until [ -s {note} ]; do :; done", groups=groups_used
    )
    end = one.wait(10)
    assert end["exit_code"] == 0
    assert one.living() == []
    assert one.job.members() == []
    pid = note.read_text().strip()
    assert not pid.isdigit() or start_ticks(int(pid)) is None


@pytest.mark.parametrize("escape", ESCAPES)
def test_the_kill_of_the_job_is_the_end_of(
    run: Start, tmp_path: Path, escape: str
) -> None:
    one = begun(run, escape, tmp_path, "sleep 600")
    assert one.living()
    for _ in range(200):  # as the supervisor does
        if one.job.is_over and not one.job.members():
            break
        one.job.kill()
        one.job.frames(0.02)
    assert one.living() == []


@pytest.mark.parametrize("escape", ESCAPES)
def test_the_death_of_the_shim_alone_leaves_what_the_mark_finds(
    run: Start, tmp_path: Path, escape: str
) -> None:
    one = begun(run, escape, tmp_path, "sleep 600")
    os.kill(one.job.pid, signal.SIGKILL)
    one.until(lambda: one.job.is_over)
    assert remains.end(one.mark) == 0
    assert one.living() == []


def test_a_kill_wish_ends_a_deaf_script_and_keeps_its_report(run: Start) -> None:
    one = run("trap '' TERM; echo on; while :; do sleep 0.1; done")
    one.until(lambda: "on" in one.text())
    one.job.ask_to_stop()
    one.job.wish(b"kill")
    end = one.wait(5)
    assert (end["signal"], end["was_asked"]) == (9, True)
    assert one.living() == []


def test_the_death_of_worker_and_launcher_ends_everything(tmp_path: Path) -> None:
    """Another process is the worker, and dies by SIGKILL with a script in flight."""
    note = tmp_path / "note"
    script = ESCAPES["an empty environment"].replace("NOTE", str(note)) + "\nsleep 600"
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path), script, PLACE],
        cwd=Path(__file__).parent.parent.parent.parent,
    )
    wait_for(lambda: note.exists() and note.read_text())
    mark = marks.of_node(f"{PLACE} death")
    # The shim, bash, its sleep and the one that went away.
    wait_for(lambda: len(marks.carriers(mark)) >= 4)
    worker.kill()
    worker.wait()
    wait_for(lambda: not marks.carriers(mark))


WORKER = """
import sys, time
from pathlib import Path
from tests.training.scripts import conftest
from training.launcher import Launcher
from training import marks, remains
conftest.PLACE = f"{sys.argv[3]} death"
if __name__ == "__main__":
    one = conftest.Run(Launcher(["training.job", "training.scripts.shim"]), Path(sys.argv[1]) / "run", sys.argv[2])
    while True:
        one.job.frames(0.1)
"""


def wait_for(done: Callable[[], object]) -> None:
    import time

    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_death_of_the_launcher_alone_ends_the_script(tmp_path: Path) -> None:
    from training.launcher import Launcher

    launcher = Launcher(["training.job", "training.scripts.shim"])
    one = Run(launcher, tmp_path / "run", "echo on; setsid sleep 600 & sleep 600")
    one.until(lambda: "on" in one.text())
    psutil.Process(one.job.pid).parent().kill()
    one.until(lambda: not one.living())
    one.until(lambda: one.frames)
    assert one.end == {"event": "stopped"}


def test_the_death_of_the_launcher_before_a_script_began_is_no_end_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.launcher import Job, Launcher

    monkeypatch.setattr(Job, "renew", lambda self, beaten: None)
    launcher = Launcher(["training.job", "training.scripts.shim"])
    one = Run(launcher, tmp_path / "run", "echo on")
    one.until(one.living)
    psutil.Process(one.job.pid).parent().kill()
    one.until(lambda: not one.living())
    one.until(lambda: one.frames)
    assert one.end == {"event": "stopped"}
    assert one.text() == ""


def test_no_control_group_is_left(run: Start, tmp_path: Path) -> None:
    one = begun(run, "setsid", tmp_path, "sleep 0.1", memory=64 * 1024**2)
    one.wait()
    name = f"{groups.PREFIX}{one.mark:x}"
    assert not [p for _, parent in groups.own_groups() for p in parent.glob(name)]


def test_leftover_groups_of_a_node_are_removed_at_its_next_start(run: Start) -> None:
    one = run("echo on; sleep 600", memory=64 * 1024**2)
    one.until(lambda: "on" in one.text())
    os.kill(one.job.pid, signal.SIGKILL)
    one.until(lambda: one.job.is_over)
    node = marks.of_node(PLACE)
    assert marks.end(node) == 0
    groups.remove_leftovers(f"{node >> marks.JOB_BITS:x}")
    name = f"{groups.PREFIX}{one.mark:x}"
    assert not [p for _, parent in groups.own_groups() for p in parent.glob(name)]


def test_marks_of_other_nodes_and_unmarked_processes_are_left_alone(run: Start) -> None:
    one = run("echo on; sleep 600")
    one.until(lambda: "on" in one.text())
    assert marks.carriers(marks.of_node("elsewhere")) == []
    assert os.getpid() not in one.living()
    assert marks.end(marks.of_job(PLACE, 1, 1)) == 0
    assert len(one.living()) == 3  # the shim, bash and its sleep
