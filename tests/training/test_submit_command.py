"""`manage.py submit`, without a worker."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from registry import broker, store
from registry.models import Dependency, Task
from registry.states import State
from training.management.commands import submit

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch, admin: User) -> None:
    monkeypatch.setattr(broker, "flush", lambda timeout=5.0: True)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "job.sh"
    path.write_text("#!/bin/bash\necho hi\n")
    return str(path)


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("submit", *words, stdout=out)
    return out.getvalue()


def test_a_file_is_queued_with_all_that_was_asked(file: str) -> None:
    first = json.loads(run(file, "--json"))["id"]
    said = run(
        file, "--name", "n", "--cpus", "2", "--memory", "1G", "--time", "1:30",
        "--warn-after", "1:00", "--env", "A=b=c", "--after", f"ok:{first}",
        "--priority", "5", "--max-retries", "1", "--tag", "t",
    )  # fmt: skip
    task = Task.objects.latest("pk")
    assert said == f"Task {task.pk} is pending.\n"
    assert (task.cpus, task.memory, task.time_limit) == (2, 2**30, 5400)
    assert (task.soft_time_limit, task.priority, task.max_retries) == (3600, 5, 1)
    assert task.params["env"] == {"A": "b=c"}
    assert Dependency.objects.get(task=task).on_id == int(first)


def test_the_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BytesIO(b"echo piped\n"))
    monkeypatch.setattr(sys, "stdin", given)
    run()
    assert Task.objects.get().params["script"] == "echo piped\n"


def test_an_array_is_told_with_its_size(file: str) -> None:
    assert "with 10 elements" in run(file, "--array", "0-9%4")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--time", "0"], "--time: '0' must be more than zero"),
        (["--memory", "much"], "--memory: 'much' must be like 4G"),
        (["--env", "A"], "--env: 'A' is not NAME=VALUE"),
        (["--env", "1A=b"], "env.1A: must be letters"),
        (["--after", "later:1"], "--after"),
        (["--after", "999"], "depends on tasks that are not there"),
        (["--array", "9-1"], "array: 9-1 has no index"),
        (["--cpus", "0"], "resources.cpus"),
        (["--user", "nobody"], "no user"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_wrong_use_is_a_sentence_and_code_2(
    file: str, words: list[str], said: str
) -> None:
    with pytest.raises(CommandError, match=said) as caught:
        run(file, *words)
    assert caught.value.returncode == 2


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"#!/usr/bin/python3\n"])
def test_what_is_no_script_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "job.sh"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError) as caught:
        run(str(path))
    assert caught.value.returncode == 2
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("state", "code"), [(State.COMPLETED, 0), (State.FAILED, 1), (State.CANCELLED, 1)]
)
def test_waiting_prints_the_output_and_ends_as_the_script_did(
    file: str, state: State, code: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def end(seconds: float) -> None:
        task = Task.objects.get()
        home = store.task_path(task.pk)
        home.mkdir(parents=True, exist_ok=True)
        (home / "log.txt").write_text("hi\n")
        changes: dict[str, Any] = {"state": state, "finished_at": task.created_at}
        if state == State.FAILED:
            changes |= {
                "reason": "exit_status",
                "message": "It ended with exit code 3.",
            }
        Task.objects.update(**changes)

    monkeypatch.setattr(submit.time, "sleep", end)
    out = io.StringIO()
    if code:
        with pytest.raises(CommandError, match=state) as caught:
            call_command("submit", file, "--wait", stdout=out)
        assert caught.value.returncode == code
    else:
        call_command("submit", file, "--wait", stdout=out)
    assert out.getvalue() == "hi\n"
