"""How a script runs and ends, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.training.scripts.conftest import Run
from training.lease import GRACE, LEASE

Start = Callable[..., Run]


def test_a_good_script_ends_with_code_0_and_its_output_stands_in_three_files(
    run: Start,
) -> None:
    one = run("echo out; sleep 0.05; echo err >&2; sleep 0.05; echo last")
    end = one.wait()
    assert (end["event"], end["exit_code"], end["signal"]) == ("exited", 0, None)
    assert (end["reason"], end["was_asked"]) == ("", False)
    assert one.text("stdout") == "out\nlast\n"
    assert one.text("stderr") == "err\n"
    assert one.log == "out\nerr\nlast\n"
    assert one.job.exit_code == 0


@pytest.mark.parametrize(
    ("script", "code", "number", "words"),
    [
        ("exit 3", 3, None, "It ended with exit code 3."),
        ("kill -SEGV $$", None, 11, "It ended by signal SIGSEGV."),
        ("kill -9 $$", None, 9, "It ended by signal SIGKILL."),
        ("kill -36 $$", None, 36, "It ended by signal 36."),
        ("no_such_program", 127, None, "It ended with exit code 127."),
        ("if then", 2, None, "It ended with exit code 2."),
    ],
)
def test_an_exit_code_or_signal_is_kept_and_said(
    run: Start, script: str, code: int | None, number: int | None, words: str
) -> None:
    end = run(script).wait()
    assert (end["exit_code"], end["signal"]) == (code, number)
    assert (end["reason"], end["message"]) == ("exit_status", words)


def test_it_runs_in_its_own_directory_with_nothing_to_read_and_defaults_for_signals(
    run: Start,
) -> None:
    one = run("pwd; cat; grep SigIgn /proc/self/status; grep SigBlk /proc/self/status")
    one.wait()
    pwd, ignored, blocked = one.text().splitlines()
    assert pwd == str(one.work)
    # 32 and 33 are the C library's own, and stay as whoever started the tests left them.
    assert int(ignored.split()[1], 16) & ~(0b11 << 31) == 0
    assert int(blocked.split()[1], 16) == 0


def test_no_open_file_of_compass_is_handed_on(run: Start) -> None:
    one = run("ls -1 /proc/self/fd")
    one.wait()
    assert one.text().split() == ["0", "1", "2", "3"]  # 3 is the directory itself


def test_the_environment_is_clean_and_names_the_task(
    run: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run(
        "env; echo; tr '\\0' '\\n' < /proc/$PPID/environ",
        env={"MINE": "a b", "LANG": "de_DE.UTF-8"},
        memory=300 * 1024**2,
        gpus=[1, 3],
        array={"id": 5, "index": 2, "size": 4, "first": 0, "last": 3},
    )
    one.wait()
    own, _, outer = one.text().partition("\n\n")
    found = dict(line.split("=", 1) for line in own.splitlines())
    assert found["MINE"] == "a b"
    assert found["LANG"] == "de_DE.UTF-8"
    assert found["SLURM_JOB_ID"] == found["COMPASS_TASK_ID"] == "7"
    assert found["SLURM_ARRAY_JOB_ID"] == found["COMPASS_ARRAY_ID"] == "5"
    assert found["SLURM_ARRAY_TASK_ID"] == found["COMPASS_ARRAY_INDEX"] == "2"
    assert found["SLURM_ARRAY_TASK_COUNT"] == "4"
    assert found["SLURM_RESTART_COUNT"] == "0"
    assert found["SLURM_MEM_PER_NODE"] == "300"
    assert found["COMPASS_MEMORY"] == str(300 * 1024**2)
    assert found["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert found["OMP_NUM_THREADS"] == found["SLURM_CPUS_PER_TASK"] == "1"
    assert found["TMPDIR"] == str(one.home / "scratch")
    known = {"PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "PWD"}
    known |= {"SHELL", "USER", "LOGNAME", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
    known |= {"SHLVL", "_", "MINE", "OLDPWD"}
    odd = [
        name
        for name in found
        if name not in known and not name.startswith(("SLURM", "COMPASS_"))
    ]
    assert odd == []
    words = ("SECRET", "DATABASE", "BROKER", "RESULT_URL", "KEY", "DATA_DIR")
    assert not [name for name in found if any(word in name for word in words)]
    assert outer.strip() == "", "the job process shows its environment"


def test_the_launcher_shows_no_environment_and_keeps_it() -> None:
    # In a process of its own: whichever test comes first has started this one's launcher.
    code = (
        "import os, training.preload\n"
        "print(repr(open('/proc/self/environ').read().strip(chr(0))), os.environ['WORD'])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "WORD": "kept"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert told.stdout == "'' kept\n"


def test_it_stays_on_its_cpus(run: Start) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    one = run("grep Cpus_allowed_list /proc/self/status", affinity=allowed[-1:])
    one.wait()
    assert one.text().split() == ["Cpus_allowed_list:", str(allowed[-1])]


def test_without_an_affinity_it_has_all_cpus(run: Start) -> None:
    one = run("nproc --all; nproc", env={"OMP_NUM_THREADS": ""})
    one.wait()
    assert one.text().split()[-1] == str(len(os.sched_getaffinity(0)))


def test_the_users_names_for_its_files_are_used_with_their_directories(
    run: Start,
) -> None:
    one = run("echo a; echo b >&2", stdout="logs/a/out.txt", stderr="err.txt")
    one.wait()
    assert (one.text("logs/a/out.txt"), one.text("err.txt")) == ("a\n", "b\n")
    assert sorted(path.name for path in one.work.iterdir()) == ["err.txt", "logs"]


def test_one_name_for_both_keeps_their_order(run: Start) -> None:
    script = "for i in $(seq 200); do echo $i; echo e$i >&2; done"
    one = run(script, stdout="all.txt", stderr="all.txt")
    one.wait()
    expected = "".join(f"{i}\ne{i}\n" for i in range(1, 201))
    assert one.text("all.txt") == one.log == expected


@pytest.mark.parametrize("name", ["../out", "/absolute/out", "a/../../out", "link/out"])
def test_no_name_leads_out_of_the_directory(
    run: Start, name: str, tmp_path: Any
) -> None:
    (tmp_path / "outside").mkdir()
    home = tmp_path / "run-0"
    (home / "work").mkdir(parents=True)
    (home / "work" / "link").symlink_to(tmp_path / "outside")
    end = run("echo a", stdout=name).wait()
    assert (end["event"], end["reason"]) == ("failed", "error")
    assert list((tmp_path / "outside").iterdir()) == []


def test_asked_to_stop_it_may_tidy_up_and_says_its_own_code(run: Start) -> None:
    one = run("trap 'echo bye; exit 4' TERM; echo on; while :; do sleep 0.05; done")
    one.until(lambda: "on" in one.text())
    one.job.ask_to_stop()
    end = one.wait()
    assert (end["exit_code"], end["was_asked"]) == (4, True)
    assert "bye" in one.text()


def test_asked_to_stop_a_script_without_a_trap_ends_at_once(run: Start) -> None:
    one = run("echo on; sleep 600 & sleep 600")
    one.until(lambda: "on" in one.text())
    one.job.terminate()
    end = one.wait(5)
    assert (end["signal"], end["was_asked"]) == (15, True)
    assert one.living() == []


def test_a_check_is_answered_and_a_warning_reaches_who_listens(run: Start) -> None:
    one = run(
        "trap 'echo warned; exit 0' USR1; sleep 600 & echo on; while :; do wait; done"
    )
    one.until(lambda: "on" in one.text())
    one.job.wish(b"check")
    one.until(lambda: {"event": "alive"} in one.frames)
    one.job.wish(b"signal USR1")
    end = one.wait()
    assert (end["exit_code"], end["was_asked"]) == (0, False)
    assert "warned" in one.text()


def test_a_warning_does_not_end_a_script_that_does_not_listen(run: Start) -> None:
    one = run("echo on; sleep 0.5; echo off")
    one.until(lambda: "on" in one.text())
    one.job.wish(b"signal USR1")
    one.job.wish(b"signal NOSUCH")
    one.job.wish(b"nonsense")
    end = one.wait()
    assert (end["exit_code"], one.text()) == (0, "on\noff\n")


def test_a_million_lines_run(run: Start) -> None:
    end = run(":\n" * 1_000_000 + "echo done").wait(60)
    assert end["exit_code"] == 0


def test_a_script_ends_when_its_supervisor_is_silent(run: Start) -> None:
    began = time.monotonic() - LEASE + 1
    one = run("trap 'echo asked; exit 0' TERM; sleep 600 & wait", leased=began)
    assert one.wait() == {"event": "stopped"}
    assert one.log == "asked\n"
    assert one.living() == []


def test_a_script_that_stood_still_with_its_supervisor_ends_at_once(
    run: Start,
) -> None:
    long_ago = time.monotonic() - LEASE - GRACE
    one = run("trap '' TERM; while :; do echo on; sleep 0.01; done", leased=long_ago)
    assert one.wait() == {"event": "stopped"}
    assert one.living() == []
