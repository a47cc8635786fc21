"""What becomes of a script's task, with its supervisor and real processes."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry import jail, orders, store
from registry.models import Node, Task, Upload
from registry.states import REASONS, State
from tests.training.conftest import log_of
from training import cores, ending, marks, orphans, script_ending, supervisor
from training.orphans import place_of
from training.processes import start_ticks
from training.script_submission import submit as submit_script
from training.scripts import groups

pytestmark = pytest.mark.django_db

Script = Callable[..., Task]
Supervise = Callable[..., Any]
ASKED: dict[str, Any] = {
    "name": "", "description": "", "tags": [], "env": {}, "lane": "cpu", "priority": 0,
    "max_retries": 0, "files": {},
}  # fmt: skip


@pytest.fixture
def script(alice: Any, node: Node, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes an assigned script."""
    for module in (supervisor, ending):
        monkeypatch.setattr(module, "close_old_connections", lambda: None)

    def script(text: str, **asked: Any) -> Task:
        words = {name: asked.pop(name) for name in ("stdout",) if name in asked}
        task = submit_script(alice, {**ASKED, "script": text, **asked}, **words)
        if not task.is_head:
            task.assign(node)
        return task

    return script


def fresh(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def files_of(task: Task) -> dict[str, int]:
    return dict(jail.walk(store.task_path(task.pk) / "files", 100))


def nothing_left(task: Task) -> bool:
    assert task.node is not None
    mark = marks.of_job(place_of(task.node.name), task.pk, task.attempt)
    return marks.carriers(mark) == []


def test_a_good_script_completes_with_its_files(
    script: Script, supervise: Supervise
) -> None:
    task = script("echo hi; mkdir -p a/b; echo x > a/b/c.txt; ln -s /etc/passwd link")
    supervise(task)
    task = fresh(task)
    assert task.state == State.COMPLETED
    assert task.result == {"exit_code": 0, "files": ["stderr", "stdout", "a/b/c.txt"]}
    assert log_of(task) == "hi\n"
    attempt = task.attempts.get()
    assert (attempt.exit_code, attempt.signal) == (0, None)
    assert attempt.log_end == 3
    assert nothing_left(task)
    assert sorted(p.name for p in store.task_path(task.pk).iterdir()) == [
        "files",
        "log.txt",
    ]


@pytest.mark.parametrize(
    ("text", "code", "number", "words"),
    [
        ("exit 3", 3, None, "It ended with exit code 3."),
        ("kill -SEGV $$", None, 11, "It ended by signal SIGSEGV."),
    ],
)
def test_a_bad_end_is_told_and_not_tried_again(
    script: Script, supervise: Supervise, text: str, code: Any, number: Any, words: str
) -> None:
    task = script(f"echo before; {text}")
    supervise(task)
    task = fresh(task)
    assert (task.state, task.reason, task.message) == (
        State.FAILED,
        "exit_status",
        words,
    )
    attempt = task.attempts.get()
    assert (attempt.exit_code, attempt.signal) == (code, number)
    assert files_of(task)["stdout"] == 7


def test_a_signal_from_outside_is_not_taken_for_the_scripts_own_end(
    script: Script, supervise: Supervise
) -> None:
    task = script("kill -TERM $PPID; sleep 60")  # its job process
    supervise(task)
    task = fresh(task)
    assert (task.state, task.reason) == (State.FAILED, "worker_stopped")
    assert "A signal from outside" in task.message
    assert nothing_left(task)


def test_a_script_that_asked_for_retries_gets_them_with_a_fresh_directory(
    script: Script, supervise: Supervise, node: Node
) -> None:
    task = script(
        "echo $SLURM_RESTART_COUNT; [ -e x ] && exit 7; touch x; exit 3", max_retries=1
    )
    supervise(task)
    task = fresh(task)
    assert (task.state, task.reason) == (State.PENDING, "exit_status")
    task.assign(node)
    supervise(task)
    task = fresh(task)
    assert task.state == State.FAILED
    assert [a.exit_code for a in task.attempts.all()] == [3, 3]
    assert log_of(task) == "0\n1\n"


@pytest.mark.parametrize(
    "text",
    [
        'rm -rf "$PWD"',
        'rm -rf "$PWD" "$HOME"; rm -rf ../../*',
        'rm -rf "$PWD"; ln -s /etc "$PWD"',
        'rm -rf "$PWD"; touch "$PWD"',
        'ln -s /etc ../../files; rm -rf "$PWD"',
        "touch ../../files",
    ],
)
def test_a_script_that_removes_its_directory_ends_as_it_says(
    script: Script, supervise: Supervise, text: str
) -> None:
    task = script(f"{text}\nexit 0")
    supervise(task)
    task = fresh(task)
    assert (task.state, task.message[:500]) == (State.COMPLETED, ""), task.message
    assert set(files_of(task)) <= {"stdout", "stderr"}
    assert nothing_left(task)


def test_directories_without_end_are_no_failure_and_go_with_the_task(
    script: Script, supervise: Supervise, django_capture_on_commit_callbacks: Any
) -> None:
    task = script(
        "python3 -c 'import os\n"
        "for _ in range(3000): os.mkdir(str(1)); os.chdir(str(1))'; touch here"
    )
    supervise(task)
    task = fresh(task)
    assert (task.state, task.message) == (State.COMPLETED, "")
    assert task.result["files"] == ["here", "stderr", "stdout"]
    with django_capture_on_commit_callbacks(execute=True):
        orders.purge(task)
    assert not store.task_path(task.pk).exists()


def test_files_that_cannot_be_kept_are_the_reason_at_once(
    script: Script, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(script_ending, "keep_files", full)
    task = script("exit 0")
    supervise(task)
    task = fresh(task)
    assert (task.state, task.reason) == (State.FAILED, "disk_full")
    assert nothing_left(task)


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ("#!/bin/bash -e", 1),
        ("#! /bin/bash -e -u\r", 1),
        ("#!/bin/bash", 0),
        ("#!/usr/bin/env bash", 0),
        ("echo -e", 0),
    ],
)
def test_the_first_line_says_how_the_shell_runs(
    script: Script, supervise: Supervise, first: str, code: int
) -> None:
    task = script(f"{first}\nfalse\necho on\n")
    supervise(task)
    assert task.attempts.get().exit_code == code


def when_it_says(
    task: Task, word: str, act: Callable[[Task], Any]
) -> Callable[[], bool]:
    done = False

    def each_tick() -> bool:
        nonlocal done
        if not done and word in log_of(task):
            done = True
            act(fresh(task))
            return True
        return False

    return each_tick


DEAF = "trap '' TERM\n(setsid sh -c \"trap '' TERM; sleep 600\" &)\necho on\nwhile :; do sleep 0.1; done"


def test_cancel_ends_a_deaf_script_and_what_went_away_from_it(
    script: Script, supervise: Supervise
) -> None:
    task = script(DEAF)
    supervise(task, when_it_says(task, "on", Task.request_cancel))
    task = fresh(task)
    assert (task.state, task.reason) == (State.CANCELLED, "cancelled_by_user")
    assert nothing_left(task)
    assert files_of(task)["stdout"] == 3


def test_cancel_lets_a_script_tidy_up(script: Script, supervise: Supervise) -> None:
    task = script("trap 'echo bye; exit 0' TERM; echo on; while :; do sleep 0.05; done")
    supervise(task, when_it_says(task, "on", Task.request_cancel))
    task = fresh(task)
    assert task.state == State.CANCELLED
    assert "bye" in log_of(task)
    assert task.attempts.get().exit_code == 0


def test_the_time_limit_is_the_reason_whatever_the_script_says_then(
    script: Script, supervise: Supervise
) -> None:
    task = script("trap 'exit 0' TERM; while :; do sleep 0.05; done", time_limit=1)
    supervise(task)
    task = fresh(task)
    assert (task.state, task.reason) == (State.FAILED, "time_limit")
    assert task.attempts.get().exit_code == 0


def test_the_hint_of_a_stopped_worker_holds_for_scripts_too() -> None:
    assert "a script that had begun needs a retry" in REASONS["worker_stopped"].hint


def test_a_stopping_worker_does_not_run_it_again(
    script: Script, supervise: Supervise
) -> None:
    task = script("echo on; sleep 600")
    supervise(task, is_stopping=lambda: "on" in log_of(task))
    task = fresh(task)
    assert (task.state, task.reason) == (State.FAILED, "worker_stopped")


def test_a_script_that_kills_its_keeper_leaves_nothing(
    script: Script, supervise: Supervise
) -> None:
    task = script("(setsid sleep 600 &); sleep 0.1; kill -9 $PPID; sleep 600")
    supervise(task)
    task = fresh(task)
    assert (task.state, task.reason) == (State.FAILED, "killed")
    assert nothing_left(task)


def test_the_peak_of_a_short_script_is_not_its_job_processes(
    script: Script, supervise: Supervise
) -> None:
    task = script("exit 3")
    supervise(task)
    assert (task.attempts.get().peak_memory or 0) < 50 * 2**20


def test_memory_beyond_what_it_asked_for_is_its_reason(
    script: Script, supervise: Supervise
) -> None:
    import sys

    eat = f"{sys.executable} -S -c 'b = bytearray(300 << 20)'"
    task = script(eat, resources={"memory": 100 * 2**20})
    supervise(task)
    task = fresh(task)
    assert (task.state, task.reason) == (State.FAILED, "out_of_memory")
    assert "100.0 MiB" in task.message
    assert (task.attempts.get().peak_memory or 0) >= 100 * 2**20


def test_inputs_are_copies_and_left_out_unless_written_to(
    script: Script, supervise: Supervise, alice: Any
) -> None:
    uploads = []
    for number, text in enumerate(("one\n", "two\n")):
        sha256 = str(number) * 64
        path = store.object_path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        row = Upload.objects.create(
            owner=alice, filename="a.csv", name="a", state="sealed", sha256=sha256,
            created_at="2026-01-01T00:00:00Z", touched_at="2026-01-01T00:00:00Z",
        )  # fmt: skip
        uploads.append((row, path))
    names = {"in/one.csv": str(uploads[0][0].pk), "two.csv": str(uploads[1][0].pk)}
    task = script("cat in/one.csv two.csv; echo more >> two.csv", files=names)
    supervise(task)
    task = fresh(task)
    assert task.state == State.COMPLETED, log_of(task)
    assert log_of(task) == "one\ntwo\n"
    assert files_of(task) == {"stdout": 8, "stderr": 0, "two.csv": 9}
    assert [path.read_text() for _, path in uploads] == ["one\n", "two\n"]


def test_an_input_that_is_gone_is_told(script: Script, supervise: Supervise) -> None:
    task = script("true")
    task.params["files"] = {"a": "77"}
    Task.objects.filter(pk=task.pk).update(params=task.params)
    supervise(fresh(task))
    task = fresh(task)
    assert (task.state, task.reason) == (State.FAILED, "bad_data")
    assert "77" in task.message


def test_an_element_knows_its_array_and_runs_its_heads_text(
    script: Script, supervise: Supervise, node: Node
) -> None:
    head = script(
        "# " + "x" * 9000 + "\necho $SLURM_ARRAY_JOB_ID/$SLURM_ARRAY_TASK_ID"
        " $SLURM_ARRAY_TASK_MIN-$SLURM_ARRAY_TASK_MAX of $SLURM_ARRAY_TASK_COUNT",
        array="3,5-7%2", stdout="out-%A-%a.txt",
    )  # fmt: skip
    task = head.elements.get(array_index=5)
    task.assign(node)
    supervise(task)
    assert fresh(task).state == State.COMPLETED
    assert log_of(task) == f"{head.pk}/5 3-7 of 4\n"
    assert files_of(task) == {f"out-{head.pk}-5.txt": len(log_of(task))}


def test_a_text_that_was_changed_on_disk_is_not_run(
    script: Script, supervise: Supervise
) -> None:
    task = script("# " + "x" * 9000)
    (store.task_path(task.pk) / "script").write_text("rm -rf /")
    supervise(task)
    assert fresh(task).reason == "bad_data"


def test_what_an_earlier_life_of_the_worker_left_is_ended_at_its_start(
    script: Script, supervise: Supervise, node: Node
) -> None:
    task = script("env -i setsid sleep 600 & echo on; sleep 600")

    def end() -> bool:
        if "on" not in log_of(task):
            return False
        assert orphans.is_gone(task.attempts.select_related("task", "node").get())
        assert nothing_left(fresh(task))
        return True

    supervise(task, end)
    assert fresh(task).state == State.FAILED


def test_cpus_are_given_once_and_come_back(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(cores, "_taken", {})
    monkeypatch.setattr(cores, "_shares", {})
    environment = dataclasses.replace(settings.ENVIRONMENT, cpus=4, pin_cpus=True)
    settings.ENVIRONMENT = environment
    assert cores.take("1-1", 2) == [2, 3]
    assert cores.take("2-1", 1, from_the_start=True) == [0]
    assert cores.take("3-1", 2) == [], "fewer are free, so it is kept on none"
    cores.give_back("1-1")
    cores.give_back("1-1")
    assert cores.take("3-1", 2) == [2, 3]


def can_make_groups() -> bool:
    one = groups.Group("probe", 0)
    made = bool(one._made)
    one.remove()
    return made


@pytest.mark.skipif(
    not can_make_groups(), reason="control groups cannot be made here by this user"
)
def test_what_takes_its_mark_off_and_kills_its_keeper_is_ended_by_its_group(
    script: Script, supervise: Supervise, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    task = script(
        '(ulimit -R 1000000; setsid bash -c \'trap "" TERM; sleep 600 & echo $! >'
        f" {note}; sleep 600' &); while [ ! -s {note} ]; do sleep 0.05; done\n"
        "kill -9 $PPID; sleep 600"
    )
    supervise(task)
    assert start_ticks(int(note.read_text())) is None
    assert fresh(task).state == State.FAILED
