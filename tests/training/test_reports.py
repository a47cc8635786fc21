"""What a job says, whatever it says, becomes rows that are right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.models import Node, Stale, Task
from training import preparation
from training.reports import Reports

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(submit: Callable[..., Task], node: Node) -> Task:
    task = submit()
    task.assign(node)
    task.start(node)
    return task


def test_progress_never_goes_back(running: Task) -> None:
    reports = Reports(running)
    for fraction, epoch in ((0.5, 5), (0.2, 2), (0.6, 6)):
        reports.take({"event": "progress", "fraction": fraction, "epoch": epoch})
        reports.write(running)
        assert running.progress["fraction"] >= 0.5
        assert running.progress["epoch"] >= 5
    assert running.progress["epoch"] == 6


def test_it_does_not_go_back_in_a_later_attempt_either(running: Task) -> None:
    running.beat(progress={"fraction": 0.7, "epoch": 7})
    reports = Reports(running)
    reports.take({"event": "progress", "fraction": 0.1, "epoch": 1})
    reports.write(running)
    assert running.progress == {"fraction": 0.7, "epoch": 7}


def test_a_step_that_is_done_again_stands_once(running: Task) -> None:
    reports = Reports(running)
    for value in (1.0, 2.0):
        reports.take({"event": "metric", "step": 3, "values": {"loss": value}})
        reports.write(running)
    assert list(running.points.values_list("step", "value")) == [(3, 2.0)]


def test_nan_and_infinity_are_null_as_the_latest_and_no_point(running: Task) -> None:
    reports = Reports(running)
    values = {"a": float("nan"), "b": float("inf"), "c": 1}
    reports.take({"event": "metric", "step": 1, "values": values})
    reports.take({"event": "progress", "fraction": 0.1, "eta": float("nan")})
    reports.write(running)
    running.refresh_from_db()
    assert running.metrics == {"a": None, "b": None, "c": 1.0}
    assert running.progress["eta"] is None
    assert running.points.get().name == "c"


def test_progress_that_no_database_can_hold_is_left_out(running: Task) -> None:
    reports = Reports(running)
    odd = {"nested": [float("nan")], "text": "a\x00b", "stage": "x" * 1000}
    reports.take({"event": "progress", "fraction": 0.1, **odd})
    reports.write(running)
    running.refresh_from_db()
    assert running.progress["text"] == "ab"
    assert len(running.progress["stage"]) == 200
    assert "nested" not in running.progress


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"event": "unknown"},
        {"event": "metric"},
        {"event": "metric", "step": "x", "values": {"a": 1}},
        {"event": "metric", "step": 1, "values": [1]},
        {"event": "metric", "step": 1, "values": {"a": "text"}},
        {"event": "metric", "step": 1, "values": {"a": 10**400}},
        {"event": "progress", "fraction": "much"},
        {"event": "progress", "fraction": 10**400},
    ],
)
def test_a_malformed_report_hurts_nobody(running: Task, frame: dict[str, Any]) -> None:
    reports = Reports(running)
    reports.take(frame)
    reports.take({"event": "metric", "step": 1, "values": {"loss": 1.0}})
    reports.take({"event": "progress", "fraction": 0.5})
    reports.write(running)
    assert running.points.get().value == 1.0
    assert running.progress["fraction"] == 0.5


def test_text_that_no_database_keeps_is_made_fit(running: Task) -> None:
    reports = Reports(running)
    reports.take({"event": "note", "text": "a\x00b\ud800"})
    reports.take({"event": "metric", "step": 1, "values": {"l\x00oss": 1.0}})
    reports.take({"event": "failed", "reason": "error", "message": "a\x00b\udfff"})
    reports.write(running)
    assert running.events.get(verb="note").message == "ab?"
    assert running.points.get().name == "loss"
    assert reports.end is not None
    running.fail(reports.end["reason"], reports.end["message"])
    assert running.message == "ab?"


def test_what_is_not_written_is_kept_for_the_next_time(
    running: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports, beat = Reports(running), Task.beat
    reports.take({"event": "metric", "step": 1, "values": {"loss": 1.0}})
    reports.take({"event": "note", "text": "a duplicate"})

    def fail(self: Task, **changes: Any) -> None:
        raise Stale

    monkeypatch.setattr(Task, "beat", fail)
    with pytest.raises(Stale):
        reports.write(running)
    monkeypatch.setattr(Task, "beat", beat)
    reports.write(running)
    assert running.points.count() == 1
    assert running.events.filter(verb="note", message="a duplicate").count() == 1


def test_an_attempt_that_is_over_writes_no_metric(running: Task) -> None:
    reports = Reports(running)
    zombie = Task.objects.get(pk=running.pk)
    running.release("node_lost", "in the test")
    reports.take({"event": "metric", "step": 1, "values": {"loss": 1.0}})
    with pytest.raises(Stale):
        reports.write(zombie)
    assert not running.points.exists()


def test_a_sign_of_life_writes_nothing(running: Task) -> None:
    reports = Reports(running)
    reports.take({"event": "alive"})
    assert not reports.is_new


def test_an_attempt_that_left_a_checkpoint_was_not_in_vain(running: Task) -> None:
    Task.objects.filter(pk=running.pk).update(retries=3, releases=29)
    reports = Reports(running)
    reports.take({"event": "progress", "fraction": 0.1})
    reports.write(running)
    running.refresh_from_db()
    assert (running.retries, running.releases) == (3, 29)
    reports.take({"event": "checkpoint", "step": 7})
    assert reports.is_new
    reports.write(running)
    running.refresh_from_db()
    assert (running.retries, running.releases) == (0, 0)


def test_an_attempt_from_the_start_begins_its_series_anew(
    running: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params = {"recipe": "fake", "params": {}, "dataset": "1"}
    Task.objects.filter(pk=running.pk).update(params=params)
    monkeypatch.setattr(preparation, "dataset_path", lambda dataset: tmp_path)
    reports = Reports(running)
    reports.take({"event": "metric", "step": 1, "values": {"loss": 1.0}})
    reports.write(running)
    preparation.prepare(running, [])
    assert running.points.count() == 1
    running.resume_from = "start"
    preparation.prepare(running, [])
    assert not running.points.exists()
