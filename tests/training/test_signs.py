"""Which job is hung: by injected time, with a job that only counts the checks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from training import signs
from training.signs import Signs


class Job:
    def __init__(self) -> None:
        self.pid, self.checks = os.getpid(), 0

    def check(self) -> None:
        self.checks += 1


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The CPU time of the job stands still unless the test adds to it."""
    ticks = [100]
    monkeypatch.setattr(signs, "cpu_ticks", lambda group: ticks[0])
    return ticks


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.txt"
    path.write_text("begun\n")
    return path


def looks(one: Signs, *moments: float) -> list[str]:
    return [one.look(moment) for moment in moments]


def test_a_process_is_hung_after_three_missed_checks(log: Path) -> None:
    job = Job()
    one = Signs(job, log, None, 0.0)
    one.take({"event": "alive"})
    assert looks(one, 4.9, 5.0, 10.0, 15.0, 19.9) == [""] * 5
    assert one.look(20.0) == "Its process gave no sign of life for 15 s."
    assert job.checks == 4


@pytest.mark.parametrize("event", ["alive", "progress", "metric", "note"])
def test_one_or_two_missed_checks_do_nothing(log: Path, event: str) -> None:
    one = Signs(Job(), log, None, 0.0)
    for start in range(0, 300, 15):
        assert looks(one, start + 5, start + 10) == ["", ""]
        one.take({"event": event})
        assert one.look(start + 15) == ""


def test_a_supervisor_that_stood_still_counts_one_miss_and_not_twelve(
    log: Path,
) -> None:
    one = Signs(Job(), log, None, 0.0)
    assert looks(one, 60.0, 60.1, 65.0) == ["", "", ""]


def test_a_job_that_burns_cpu_without_a_word_is_busy(
    log: Path, idle: list[int]
) -> None:
    one = Signs(Job(), log, None, 0.0)
    for moment in range(5, 100, 5):
        idle[0] += signs.BUSY
        assert one.look(moment) == ""
    assert looks(one, 100, 105) == ["", ""]
    assert one.look(110) != ""


def test_work_that_tells_nothing_for_hang_after_is_hung_though_it_answers(
    log: Path,
) -> None:
    one = Signs(Job(), log, 30, 0.0)
    for moment in range(1, 30):
        one.take({"event": "alive"})
        assert one.look(moment) == ""
    assert "for 30 s" in one.look(30.0)


def test_any_report_and_any_growth_of_the_log_shows_that_the_work_goes_on(
    log: Path,
) -> None:
    one = Signs(Job(), log, 3, 0.0)
    for moment in range(1, 40):
        one.take({"event": "alive"})
        if moment % 4 == 0:
            one.take({"event": "progress"})
        elif moment % 4 == 2:
            log.write_text(log.read_text() + "more\n")
        assert one.look(moment) == ""
