"""What the commands print and how they fail; each as its user starts it, or in this process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import (
    DatabaseError,
    OperationalError,
    ProgrammingError,
    connection,
    transaction,
)

from registry import logs, scheduler
from registry.management.output import explained, has_database
from registry.models import Task

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = [
    "tasks",
    "models",
    "train tabular --dataset d",
    "predict m --input 1",
    "logs 1",
    "cancel 1",
    "createkey admin",
    "clean",
    "doctor",
]


def run(*args: str) -> Any:
    out = io.StringIO()
    call_command(*args, stdout=out)
    return out.getvalue()


def start(data_dir: Path, *command: str, **options: Any) -> subprocess.Popen[str]:
    variables = {k: v for k, v in os.environ.items() if not k.startswith("COMPASS_")}
    variables |= {
        "COMPASS_DATA_DIR": str(data_dir),
        "DJANGO_SETTINGS_MODULE": "compass.settings",
    }
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


IN_ONE_PROCESS = """
import sys, django
from django.core.management import CommandError, call_command
django.setup()
for line in sys.argv[1:]:
    try:
        call_command(*line.split())
    except CommandError as error:
        print(line.split()[0], error.returncode, error)
    except SystemExit as end:
        print(line.split()[0], end.code)
"""


def test_where_no_stack_was_ever_started_commands_say_so_and_leave_nothing(
    tmp_path: Path,
) -> None:
    child = start(tmp_path, "-c", IN_ONE_PROCESS, *COMMANDS)
    out, errors = child.communicate(timeout=60)
    assert "Traceback" not in errors
    told = [line for line in out.splitlines() if "No stack was ever started" in line]
    assert [line.split()[:2] for line in told] == [
        [line.split()[0], "1"] for line in COMMANDS[:-1]
    ]
    assert all(str(tmp_path) in line and "manage.py up" in line for line in told)
    assert "doctor 1" in out
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(
    tmp_path: Path,
) -> None:
    start(tmp_path, "manage.py", "migrate", "-v", "0").communicate(timeout=60)
    child = start(tmp_path, "manage.py", "tasks")
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.wait(60) == 0
    assert child.stderr.read() == ""
    child.stderr.close()


class Undefined(Exception):
    sqlstate = "42P01"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OperationalError("no such table: registry_task"), "manage.py up"),
        (OperationalError("no such column: r.lane"), "manage.py up"),
        (ProgrammingError('relation "registry_task" does not exist'), "manage.py up"),
        (OperationalError("database is locked"), "be used: database is locked."),
        (OperationalError("refused\nIs the server running?"), "be used: refused."),
        (OperationalError(), "be used: OperationalError."),
    ],
)
def test_what_is_wrong_with_the_database_is_one_sentence(
    error: OperationalError | ProgrammingError, words: str
) -> None:
    if isinstance(error, ProgrammingError):
        error.__cause__ = Undefined()
    told = explained(error)
    assert words in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "query", ["SELECT 1 FROM absent", "SELECT absent FROM registry_task"]
)
def test_missing_and_old_tables_are_known_on_each_database(
    query: str, db: None
) -> None:
    with (
        pytest.raises(DatabaseError) as caught,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(query)
    assert "No stack was ever started" in explained(caught.value)


@pytest.mark.parametrize(
    "error", [OperationalError("no server"), PermissionError(13, "not yours")]
)
def test_a_command_that_meets_an_error_of_the_machine_says_so(
    error: Exception, monkeypatch: pytest.MonkeyPatch, db: None
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(scheduler, "dispatch", fail)
    with pytest.raises(CommandError, match=r"no server|not yours") as caught:
        call_command("dispatch")
    assert caught.value.returncode == 1


def test_the_database_of_a_started_stack_is_seen(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert has_database()


def write_log(task: Task, text: str) -> None:
    path = logs.path(task)
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_a_log_is_printed_as_it_is_or_as_one_object(
    submit: Callable[..., Task],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = submit()
    write_log(task, "one\ntwo\n")
    monkeypatch.setattr(logs, "MOST", 3)  # so that it takes several pieces
    call_command("logs", str(task.pk))
    assert capsys.readouterr().out == "one\ntwo\n"
    told = json.loads(run("logs", str(task.pk), "--json"))
    assert told == {
        "text": "one\ntwo\n",
        "offset": 0,
        "next_offset": 8,
        "size": 8,
        "complete": False,
    }


def test_a_log_that_is_followed_is_one_object_a_line(
    submit: Callable[..., Task],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = submit()
    task.request_cancel()
    write_log(task, "one\ntwo\n")
    monkeypatch.setattr(logs, "MOST", 4)
    call_command("logs", str(task.pk), "--follow", "--json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == ["one\n", "two\n"]
    assert [line["complete"] for line in lines] == [False, True]


def test_a_cancelled_task_is_told_as_json(submit: Callable[..., Task]) -> None:
    task = submit()
    told = json.loads(run("cancel", str(task.pk), "--json"))
    assert told == {"id": str(task.pk), "state": "cancelled"}
    assert json.loads(run("cancel", str(task.pk), "--json")) == told


def test_tasks_are_told_as_json(submit: Callable[..., Task]) -> None:
    task = submit(name="mine")
    (told,) = json.loads(run("tasks", "--json"))
    assert (told["id"], told["name"]) == (str(task.pk), "mine")
