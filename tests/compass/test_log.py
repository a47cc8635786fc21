from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from celery.app import trace
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule

from compass import log
from compass.celery import app
from compass.log import NotRegular, open_log, rotate, tail


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(log, "LIMIT", 10)
    return tmp_path / "logs" / "web.log"


def test_a_long_log_is_put_aside_at_the_start(path: Path) -> None:
    with open_log(path) as file:
        file.write(b"one\n" * 5)
    with open_log(path) as file:
        file.write(b"two\n")
    assert path.read_text() == "two\n"
    assert path.with_suffix(".log.1").read_text() == "one\n" * 5
    assert tail(path, 5) == "two"
    assert tail(path.with_name("nothing"), 5) == ""


def test_three_logs_are_kept_however_long_it_writes(path: Path) -> None:
    with open_log(path) as file:
        for number in range(7):
            file.write(b"%d" % number * 20)
            file.flush()
            assert rotate(path)
            assert not rotate(path)
    kept = {one.name: one.read_text() for one in path.parent.iterdir()}
    assert kept == {
        "web.log": "",
        "web.log.1": "6" * 20,
        "web.log.2": "5" * 20,
        "web.log.3": "4" * 20,
    }


def test_without_room_for_the_copy_nothing_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    with open_log(path) as file:
        file.write(b"old" * 10)
    rotate(path)
    path.write_text("new" * 10)
    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="no space"):
        rotate(path)
    kept = {one.name: one.read_text() for one in path.parent.iterdir()}
    assert kept == {"web.log": "new" * 10, "web.log.1": "old" * 10}


@pytest.fixture
def lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """What passes at the level INFO."""
    monkeypatch.setattr(logging.root, "level", logging.INFO)
    for name in ("celery.app.trace", "celery.beat"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
        monkeypatch.setattr(logging.getLogger(name), "filters", [NotRegular()])
    logging.getLogger("celery").manager._clear_cache()  # type: ignore[attr-defined]
    return caplog


def test_regular_duties_that_go_well_are_not_told(
    lines: pytest.LogCaptureFixture,
) -> None:
    for name in ("registry.rescue", "registry.clean"):
        trace.info("Task %(name)s received", {"name": name})
    assert lines.messages == ["Task registry.clean received"]


def test_a_duty_that_fails_is_told(lines: pytest.LogCaptureFixture) -> None:
    data = {"name": "registry.rescue"}
    trace.logger.error("Task %(name)s raised", data, extra={"data": data})
    assert lines.messages == ["Task registry.rescue raised"]


def test_all_is_told_when_all_is_asked_for(
    lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "level", logging.DEBUG)
    logging.getLogger("celery").manager._clear_cache()  # type: ignore[attr-defined]
    trace.info("Task %(name)s received", {"name": "registry.rescue"})
    assert lines.messages == ["Task registry.rescue received"]


def test_beat_does_not_tell_of_each_duty(
    lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(app=app, lazy=True)
    monkeypatch.setattr(scheduler, "apply_async", lambda *_, **__: None)
    for name in ("registry.dispatch", "registry.clean"):
        entry = ScheduleEntry(name=name, task=name, schedule=schedule(5.0), app=app)
        scheduler.apply_entry(entry)
    assert [one for one in lines.messages if "dispatch" in one] == []
    assert [one for one in lines.messages if "clean" in one] != []


def test_the_settings_hold_the_filter_to_each_of_celerys_voices() -> None:
    from django.conf import settings

    assert settings.LOGGING["filters"]["regular"] == {"()": "compass.log.NotRegular"}
    voices = ("celery.app.trace", "celery.worker.strategy", "celery.beat")
    loggers = settings.LOGGING["loggers"]
    assert all(loggers[name]["filters"] == ["regular"] for name in voices)
