from __future__ import annotations

import datetime
from pathlib import Path

from celery import Celery
from celery.schedules import crontab

from compass.beat import Scheduler


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


def is_four() -> bool:
    return datetime.datetime.now(datetime.UTC).hour == 4
