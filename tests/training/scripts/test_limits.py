"""What a script takes too much of ends it, and its output costs Compass little."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.training.scripts.conftest import MIB, Run
from training.scripts import limits
from training.scripts.groups import Group
from training.scripts.limits import Limits

Start = Callable[..., Run]

EATER = f"{sys.executable} -S -c 'b = bytearray(400 << 20); print(\"ate\"); import time; time.sleep(60)'"
HELD = Group("tests-probe", MIB)
needs_groups = pytest.mark.parametrize(
    "groups",
    [True, False] if HELD.holds_memory else [False],
    ids=["groups", "watch"] if HELD.holds_memory else ["watch"],
)
HELD.remove()


@needs_groups
def test_more_memory_than_asked_for_ends_it_with_the_figures(
    run: Start, groups: bool
) -> None:
    one = run(f"{EATER}\necho on", memory=150 * MIB, groups=groups)
    end = one.wait()
    assert end["reason"] == "out_of_memory"
    assert "150.0 MiB" in end["message"]
    assert end["peak_memory"] >= 150 * MIB
    assert "on" not in one.text(), "the script went on without its program"
    assert end["message"] in one.log
    assert one.living() == []


def test_processes_count_together(run: Start) -> None:
    part = EATER.replace("400", "100")
    one = run(f"{part} & setsid {part} & wait", memory=150 * MIB, groups=False)
    end = one.wait()
    assert end["reason"] == "out_of_memory"
    assert "it asked for 150.0 MiB" in end["message"]


def test_pages_that_processes_share_count_once(run: Start) -> None:
    fork = (
        "import os, time\nb = bytearray(100 << 20)\n"
        "for _ in range(3): os.fork()\ntime.sleep(1)"
    )
    one = run(f"{sys.executable} -S -c '{fork}'", memory=250 * MIB, groups=False)
    end = one.wait()
    assert (end["reason"], end["exit_code"]) == ("", 0)


def test_within_its_memory_it_runs_and_its_peak_is_told(run: Start) -> None:
    eater = EATER.replace("400", "50").replace("sleep(60)", "sleep(0.5)")
    end = run(eater, memory=400 * MIB).wait()
    assert end["reason"] == ""
    assert 50 * MIB <= end["peak_memory"] < 200 * MIB


@pytest.mark.parametrize("groups", [True, False])
def test_the_memory_of_the_job_process_is_not_the_scripts(
    run: Start, groups: bool
) -> None:
    ends = [run("sleep 0.2", memory=30 * MIB, groups=groups).wait() for _ in range(5)]
    assert [end["reason"] for end in ends] == [""] * 5
    assert 0 < max(end["peak_memory"] for end in ends) < 30 * MIB


def test_a_directory_that_grows_too_large_ends_it(run: Start) -> None:
    one = run(
        "dd if=/dev/zero of=a/big bs=1M count=500 & mkdir a; "
        "while :; do dd if=/dev/zero bs=1M count=8 >> big 2> /dev/null; sleep 0.05; done",
        disk_limit=40 * MIB,
    )
    end = one.wait()
    assert end["reason"] == "disk_full"
    assert "the limit is 40.0 MiB" in end["message"]
    assert one.living() == []


def test_the_temporary_directory_counts_and_inputs_do_not(run: Start) -> None:
    one = run("head -c 30M /dev/zero > $TMPDIR/x; sleep 5", disk_limit=20 * MIB)
    assert one.wait()["reason"] == "disk_full"


def free_of(monkeypatch: pytest.MonkeyPatch, *frees: float) -> None:
    line = iter(frees)
    monkeypatch.setattr(
        limits,
        "_free",
        lambda directory: (int(next(line) * limits.GIB), 9 * limits.GIB),
    )


def look(tmp_path: Path, size: int) -> limits.Verdict | None:
    now = iter(range(100))
    spec = {"memory": 0, "disk_limit": 0, "home": str(tmp_path)}
    watch = Limits(spec, None, monotonic=lambda: float(next(now)))
    (tmp_path / "file").write_bytes(b"x" * size)
    return watch.look()


def test_a_full_disk_ends_the_script_that_fills_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_of(monkeypatch, 0.25, 0.1)
    verdict = look(tmp_path, 2 * MIB)
    assert verdict is not None
    assert verdict[0] == "disk_full"
    assert "102.4 MiB left" in verdict[1]


def test_a_full_disk_ends_the_script_that_fills_it_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_of(monkeypatch, 2.0, 0.1)
    assert look(tmp_path, 0) is not None


def test_a_disk_that_was_full_before_is_not_the_scripts_doing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_of(monkeypatch, 0.1, 0.1)
    assert look(tmp_path, 100) is None


def test_a_gigabyte_without_a_newline_costs_constant_memory(run: Start) -> None:
    one = run("echo first; head -c 1G /dev/zero; echo last", log_limit=3 * MIB)
    most = 0

    def over() -> bool:
        nonlocal most
        try:
            most = max(most, psutil.Process(one.job.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return one.job.is_over
        return False

    before = psutil.Process(one.job.pid).memory_info().rss
    one.until(over, 60)
    end = one.wait()
    assert end["exit_code"] == 0
    assert most - before < 30 * MIB
    for path in (one.home / "log.txt", one.work / "stdout"):
        assert 3 * MIB <= path.stat().st_size < 3 * MIB + 200
    assert one.log.startswith("first\n")
    assert one.log.count("[Compass: this file holds 3,145,728 bytes") == 1
    notes = [frame["text"] for frame in one.frames if frame["event"] == "note"]
    dropped = 1024**3 + len("first\nlast\n") - 3 * MIB
    assert notes == [f"{dropped:,} bytes of output were not kept; the log was full."]


def test_the_log_of_earlier_attempts_counts(run: Start, tmp_path: Path) -> None:
    (tmp_path / "run-0").mkdir()
    (tmp_path / "run-0" / "log.txt").write_bytes(b"x" * 100 + b"\n")
    one = run("echo again", log_limit=100)
    one.wait()
    assert one.text() == "again\n"
    assert "again" not in one.log


def test_a_file_that_the_user_named_takes_more_than_the_log(run: Start) -> None:
    one = run(
        "head -c 5M /dev/zero", log_limit=MIB, stdout="out.bin", named=["out.bin"]
    )
    one.wait()
    assert (one.work / "out.bin").stat().st_size == 5 * MIB


def test_output_that_nobody_can_keep_stops_no_script(run: Start) -> None:
    one = run("echo a; echo b", log="/dev/full")
    end = one.wait()
    assert end["exit_code"] == 0
    assert one.text() == "a\nb\n"


def test_odd_bytes_are_kept_as_they_are(run: Start) -> None:
    one = run(r"printf '\xff\x00\x80caf\xc3\xa9'")
    one.wait()
    assert (one.work / "stdout").read_bytes() == b"\xff\x00\x80caf\xc3\xa9"
    assert os.path.getsize(one.home / "log.txt") == 8  # noqa: PTH202
