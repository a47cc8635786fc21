from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from registry import clock, leftovers, maintenance, store, tasks, uploads
from registry.models import (
    IdempotencyKey,
    Incident,
    ModelVersion,
    Node,
    Pulse,
    Task,
    Upload,
)
from registry.models.model_version import Model
from registry.states import State
from tests.conftest import make_node
from tests.registry.race import race
from tests.registry.test_trees import deep
from tests.registry.uploading import CSV, row, sealed, zipped

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(submit, node):
    def running(on: Node | None = None) -> Task:
        task = submit()
        task.assign(on or node)
        task.start(on or node)
        return task

    return running


def test_a_lost_nodes_tasks_are_released_with_when_it_was_seen(
    running, submit, node, time
):
    first, second = running(), submit()
    second.assign(node)
    time.forward(seconds=29)
    assert maintenance.rescue()["found"] == 0
    time.forward(seconds=1)
    summary = maintenance.rescue()

    assert summary == dict.fromkeys(maintenance.SUMMARY, 0) | {
        "found": 2,
        "released": 2,
        "cpus": 2,
    }
    first.refresh_from_db()
    assert (first.state, first.reason) == ("pending", "node_lost")
    assert "cpu@one was last seen at 2026-01-05 09:00:00 UTC" in first.message
    assert first.attempts.get().outcome == "pending"


def test_another_nodes_tasks_are_untouched_and_take_up_the_released(
    running, node, time
):
    other = make_node("cpu@two")
    theirs, lost = running(other), running()
    time.forward(seconds=25)
    other.beat()
    theirs.beat()
    time.forward(seconds=5)
    maintenance.rescue()

    theirs.refresh_from_db()
    lost.refresh_from_db()
    assert (theirs.state, theirs.attempt) == ("running", 1)
    assert (lost.state, lost.attempt, lost.node) == ("assigned", 2, other)


def test_rescue_twice_is_as_rescue_once(running, node, time):
    task = running()
    time.forward(seconds=30)
    maintenance.rescue()
    task.refresh_from_db()
    events = task.events.count()

    assert maintenance.rescue()["found"] == 0
    assert task.events.count() == events


@pytest.mark.django_db(transaction=True)
def test_two_rescues_at_once_release_each_task_once(submit, node):
    for _ in range(4):
        task = submit()
        task.assign(node)
    Node.objects.update(beat_at=clock.now() - timedelta(minutes=1))

    found = [summary["found"] for summary in race([maintenance.rescue] * 3)]

    assert sum(found) == 4
    for task in Task.objects.all():
        assert task.events.filter(verb="release").count() == 1
        assert task.releases == 1


def test_a_wish_to_cancel_is_met_on_a_lost_node(running, time):
    task = running()
    task.request_cancel()
    time.forward(seconds=30)

    assert maintenance.rescue()["cancelled"] == 1
    task.refresh_from_db()
    assert task.state == State.CANCELLED


def test_a_wish_to_pause_is_met_on_a_lost_node(running, time):
    task = running()
    task.request_pause()
    time.forward(seconds=30)
    assert maintenance.rescue()["paused"] == 1


def test_what_was_placed_in_vain_too_often_fails(running, time):
    task = running()
    Task.objects.update(releases=30)
    time.forward(seconds=30)
    assert maintenance.rescue()["failed"] == 1
    task.refresh_from_db()
    assert task.state == State.FAILED


@pytest.mark.parametrize("leaves", ["lost", "stopped"])
def test_a_task_whose_supervisor_beats_is_left_to_it_however_silent_its_node_is(
    running, time, leaves
):
    task = running()
    changes = {"lost": "beat_at", "stopped": "stopped_at"}
    Node.objects.update(**{changes[leaves]: time.moment - timedelta(minutes=1)})
    Task.objects.update(beat_at=time.moment - timedelta(seconds=29))
    assert maintenance.rescue()["found"] == 0
    time.forward(seconds=1)
    assert maintenance.rescue()["released"] == 1
    task.refresh_from_db()
    assert task.state == State.PENDING


def test_a_task_that_its_living_node_forgot_is_released_after_60_seconds(
    running, node, time
):
    forgotten, known = running(), running()
    for _ in range(11):
        time.forward(seconds=5)
        node.beat()
        known.beat()
    assert maintenance.rescue()["found"] == 0
    time.forward(seconds=5)
    node.beat()
    Node.objects.update(draining=True)

    assert maintenance.rescue()["released"] == 1
    forgotten.refresh_from_db()
    known.refresh_from_db()
    assert (forgotten.state, known.state) == ("pending", "running")
    assert "no longer spoke of it" in forgotten.message


def test_what_lies_assigned_to_a_stopped_node_is_released(submit, node, time):
    task = submit()
    task.assign(node)
    node.stop()
    time.forward(seconds=30)

    assert maintenance.rescue()["released"] == 1
    task.refresh_from_db()
    assert (task.state, task.reason) == ("pending", "worker_stopped")


def test_a_beat_that_comes_between_the_look_and_the_release_keeps_the_task(
    running, node, time
):
    task = running()
    time.forward(seconds=60)
    lost = Task.objects.filter(node__beat_at__lte=time.moment)

    class LookedAtBefore:
        def order_by(self, name: str) -> list[Task]:
            found = list(lost.order_by(name))
            time.forward(seconds=1)
            node.beat()
            return found

        def filter(self, **fields: Any) -> Any:
            return lost.filter(**fields)

    seen: Counter[str] = Counter()
    rows: Any = LookedAtBefore()
    maintenance._release(rows, "node_lost", "Gone.", seen)

    task.refresh_from_db()
    assert (task.state, seen) == ("running", Counter())


def test_a_stalled_upload_fails_and_its_record_expires(alice, time, settings):
    row(alice)
    time.forward(seconds=29)
    assert maintenance.expire()["uploads_stalled"] == 0
    time.forward(seconds=1)
    assert maintenance.expire()["uploads_stalled"] == 1
    upload = Upload.objects.get()
    assert (upload.state, upload.reason) == ("failed", "cut_short")

    time.forward(hours=settings.ENVIRONMENT.upload_expiry_hours)
    assert maintenance.expire()["uploads_removed"] == 1
    assert not Upload.objects.exists()


def test_expire_sends_a_silent_sealing_again(alice, time, messages):
    upload = row(alice, state="sealing", sha256="0" * 64)
    time.forward(seconds=10)
    assert maintenance.expire()["uploads_sent_again"] == 1
    assert messages.background == [("registry.seal", [upload.pk])]


def test_old_idempotency_keys_are_removed(alice, time):
    for days, key in ((0, "new"), (2, "old")):
        moment = time.moment - timedelta(days=days)
        IdempotencyKey.objects.create(
            user=alice, key=key, request="", status=200, created_at=moment
        )
    assert maintenance.expire()["keys_removed"] == 1
    assert IdempotencyKey.objects.get().key == "new"


def test_clean_removes_what_a_dead_worker_left_of_a_finished_attempt(
    submit, node, time
):
    task = submit()
    for verb in ("node_lost", None):
        task.assign(node)
        task.start(node)
        if verb:
            task.release(verb, "The node is gone.")
    script = submit(kind="script")
    script.assign(node)
    script.start(node)
    script.fail("node_lost", "The node is gone.")
    gone = [
        *_made(f"tasks/{task.pk}/attempt-1/scratch/part"),
        *_made(f"tasks/{script.pk}/attempt-1/home/result"),
    ]
    kept = [
        *_made(f"tasks/{task.pk}/attempt-2/scratch/part"),
        *_made(f"tasks/{task.pk}/checkpoints/step"),
        *_made(f"tasks/{script.pk}/files/result"),
    ]
    assert maintenance.clean()["tasks"] == 2
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


def test_clean_removes_only_what_no_row_names_and_is_old(api, alice, submit):
    upload = sealed(api, zipped({"x/a.csv": b"1"}), "a.zip")
    task = submit()
    version = _version("a" * 64)
    kept = [
        *_made("objects/00/" + "0" * 64, age=0),
        *_made(f"tasks/{task.pk}/log.txt"),
        *_made(f"models/{version.digest}/config.json"),
        *_made("aside/" + "1" * 24 + ".upload", age=0),
        *_made("aside/somebodys-notes.txt"),
        *_made("tasks/notes/readme"),
        *_made("models/latest/config.json"),
        *_made("elsewhere/" + "2" * 24),
        *_made("notes.txt"),
    ]
    gone = [
        *_made("aside/" + "3" * 24 + ".upload"),
        *_made("aside/" + "4" * 24 + ".unpacked/deep/a.csv"),
        *_made("objects/55/" + "5" * 64),
        *_made("objects/55/" + "5" * 64 + ".files/a.csv"),
        *_made("models/" + "6" * 64 + "/config.json"),
        *_made(f"tasks/{task.pk + 1}/log.txt"),
    ]
    named = [uploads.dataset_path(upload), uploads.unpacked_path(upload)]
    for path in named:
        _age(path, 7200)

    summary = maintenance.clean()

    assert [path for path in (*kept, *named) if not path.exists()] == []
    assert [path for path in gone if path.exists()] == []
    counted = {name: summary[name] for name in ("aside", "models", "tasks")}
    assert counted == {"aside": 2, "models": 1, "tasks": 1}
    assert summary["objects"] >= 1
    assert summary["bytes"] > 0
    assert set(maintenance.clean().values()) == {0}


def test_a_young_file_keeps_its_old_directory(db):
    _made("aside/" + "7" * 24 + "/a")
    young = _made("aside/" + "7" * 24 + "/b", age=0)
    assert maintenance.clean()["aside"] == 0
    assert young[0].exists()


def test_clean_follows_no_symbolic_link(tmp_path):
    outside = tmp_path / "outside"
    precious = [outside / ("8" * 24), outside / ("8" * 64)]
    outside.mkdir()
    for path in precious:
        path.write_text("precious")
    aside = store.root() / "aside"
    aside.mkdir(parents=True)
    (aside / ("9" * 24)).symlink_to(outside)
    (aside / ("a" * 24)).symlink_to(precious[0])
    (store.root() / "models").symlink_to(outside)
    for path in (*precious, outside, *aside.iterdir()):
        os.utime(path, (0, 0), follow_symlinks=False)

    assert set(maintenance.clean().values()) == {0}
    assert [path.read_text() for path in precious] == ["precious"] * 2
    assert len(list(aside.iterdir())) == 2


def test_a_link_in_an_old_directory_goes_without_its_target(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a").write_text("1")
    place = store.root() / "aside" / ("b" * 24)
    place.mkdir(parents=True)
    (place / "link").symlink_to(precious)
    for path in (place / "link", place):
        os.utime(path, (0, 0), follow_symlinks=False)

    assert leftovers.remove()["aside"] == 1
    assert (precious / "a").read_text() == "1"


def test_a_directory_without_end_does_not_keep_the_others(monkeypatch, submit):
    old = _made("tasks/999/log.txt")
    deep(store.root() / "tasks" / "998", 3000)
    monkeypatch.setattr(leftovers, "OLD", timedelta(hours=-1))  # all of it is old
    assert leftovers.remove()["tasks"] == 2
    assert not any(path.exists() for path in (*old, store.root() / "tasks" / "998"))


def test_clean_gives_way_to_an_upload_of_the_same_content(api, monkeypatch):
    orphan = _made("objects/" + "/".join(_place(CSV)))
    upload = sealed(api, CSV)
    _age(store.object_path(upload.sha256), 7200)

    assert maintenance.clean()["objects"] == 0
    assert orphan[0].read_bytes() == CSV


@pytest.mark.parametrize("name", ["rescue", "expire", "clean"])
def test_each_duty_records_its_pulse(name, time):
    getattr(tasks, name)()
    assert Pulse.objects.get(name=name).at == time.moment


def test_dispatch_shows_that_beat_is_there(time, submit):
    submit()
    assert tasks.dispatch() == {"placed": 0, "waiting": 1}
    assert Pulse.objects.get(name="beat").at == time.moment


@pytest.mark.parametrize("name", ["dispatch", "rescue", "expire", "clean", "seal"])
def test_each_duty_is_a_task_on_the_control_queue(name):
    task = getattr(tasks, name)
    assert task.name == f"registry.{name}"
    queue = task.app.amqp.router.route({}, task.name)["queue"]
    assert queue.name == "control"


def test_sealing_is_a_task_too(api):
    assert tasks.seal(999) == "deleted"


@pytest.mark.parametrize("name", ["dispatch", "rescue", "expire", "clean"])
def test_each_duty_is_a_command(name, submit):
    submit()
    plain, shown = StringIO(), StringIO()
    call_command(name, stdout=plain)
    call_command(name, "--json", stdout=shown)

    lines = plain.getvalue().splitlines()
    summary = json.loads(shown.getvalue())
    assert [line.partition(":")[0].replace(" ", "_") for line in lines] == list(summary)


def test_a_command_that_fails_says_so_and_exits_with_1(monkeypatch):
    def broken() -> None:
        raise OperationalError("no database")

    monkeypatch.setattr(maintenance, "clean", broken)
    with pytest.raises(CommandError, match="no database") as caught:
        call_command("clean")
    assert caught.value.returncode == 1


def _made(name: str, age: float = 7200) -> list[Path]:
    path = store.root() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    _age(path, age)
    for one in path.parents:
        if one == store.root():
            break
        os.utime(one, (0, 0))
    return [path]


def _age(path: Path, seconds: float) -> None:
    moment = clock.now().timestamp() - seconds
    for one in (path, *path.rglob("*")):
        os.utime(one, (moment, moment))


def _version(digest: str) -> ModelVersion:
    model = Model.objects.create(name="m", created_at=clock.now())
    return model.register(digest=digest, weights_sha256="", size=1, recipe="affinity")


def _place(content: bytes) -> tuple[str, str]:
    sha256 = hashlib.sha256(content).hexdigest()
    return sha256[:2], sha256


def test_a_rescue_that_found_something_is_an_incident(running, time):
    Pulse.record("rescue")
    time.forward(seconds=30)
    running_one = running()
    silent = time.moment - timedelta(seconds=30)
    Task.objects.filter(pk=running_one.pk).update(beat_at=silent)
    text = {"ended": 2, "left": 0}
    Incident.record("orphan", "Two were ended.", summary=text)
    Node.objects.update(beat_at=time.moment - timedelta(minutes=1))

    summary = maintenance.rescue()

    assert (summary["found"], summary["orphans"]) == (1, 2)
    incident = Incident.objects.filter(kind="rescue").get()
    assert incident.summary == summary
    assert incident.message == (
        "Found 1 lost tasks (1 released), freed 1 CPUs and 0 GPUs, "
        "ended 2 orphan processes."
    )
    assert maintenance.rescue()["orphans"] == 0
    assert Incident.objects.filter(kind="rescue").count() == 1


def test_what_an_earlier_life_still_runs_is_released_once_it_is_silent(
    running, node, time
):
    kept, silent = running(), running()
    new = make_node(node.name, is_gone=lambda attempt: False)
    own = running(new)
    for _ in range(6):
        time.forward(seconds=5)
        new.beat()
        kept.beat()

    assert maintenance.rescue()["released"] == 1
    silent.refresh_from_db()
    kept.refresh_from_db()
    own.refresh_from_db()
    assert "earlier life" in silent.attempts.get(number=1).message
    assert (kept.state, own.state) == ("running", "running")


def test_old_incidents_are_removed(time):
    Incident.record("rescue", "Long ago.", summary={})
    time.forward(days=90)
    Incident.record("rescue", "Now.", summary={})
    maintenance.expire()
    assert Incident.objects.get().message == "Now."
