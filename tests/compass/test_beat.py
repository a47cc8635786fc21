from __future__ import annotations

import datetime
from pathlib import Path
from unittest import mock

import pytest
from celery import Celery, beat
from celery.schedules import crontab

from compass import loop
from compass.beat import Scheduler
from compass.loop import CUT_AFTER, Watch


def make(folder: Path) -> Scheduler:
    app = Celery("test", set_as_current=False)
    app.conf.update(
        timezone="UTC",
        beat_schedule={
            "often": {"task": "often", "schedule": 5.0},
            "nightly": {"task": "nightly", "schedule": crontab(hour=4)},
        },
    )
    return Scheduler(app=app, schedule_filename=str(folder / "schedule"))


def test_a_duty_that_was_never_done_is_due_at_once(tmp_path: Path) -> None:
    scheduler = make(tmp_path)
    assert scheduler.schedule["often"].is_due().is_due
    assert not scheduler.schedule["nightly"].is_due().is_due or is_four()
    scheduler.close()


def test_a_duty_that_was_done_waits_its_time_also_after_a_restart(
    tmp_path: Path,
) -> None:
    scheduler = make(tmp_path)
    scheduler.schedule["often"] = next(scheduler.schedule["often"])
    scheduler.close()
    again = make(tmp_path)
    assert not again.schedule["often"].is_due().is_due
    again.close()


def test_a_tick_that_stands_still_is_cut_off_from_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, cut = Watch(), mock.Mock()
    monkeypatch.setattr(loop, "WATCH", watch)
    monkeypatch.setattr(loop, "cut", cut)
    scheduler = make(tmp_path)
    calls: list[int] = []

    def stand_still(*args: object) -> None:
        for _ in range(CUT_AFTER):
            watch.look()
        calls.append(cut.call_count)

    monkeypatch.setattr(beat.Scheduler, "tick", stand_still)
    scheduler.tick()
    assert (calls, cut.call_args.args) == ([1], (scheduler,))
    # Between two ticks, and while it looks for its broker, it has time.
    stand_still()
    monkeypatch.setattr(beat.Scheduler, "_ensure_connected", stand_still)
    scheduler._ensure_connected()
    assert calls == [1, 1, 1]
    scheduler.close()


def is_four() -> bool:
    return datetime.datetime.now(datetime.UTC).hour == 4
