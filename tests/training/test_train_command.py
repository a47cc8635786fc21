"""`manage.py train`, `tasks`, `logs` and `cancel`, without a worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from registry import broker, logs
from registry.models import Task
from registry.states import State

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "flush", lambda timeout=5.0: True)


def run(*words: str, **options: Any) -> str:
    out = StringIO()
    call_command(*words, stdout=out, **options)
    return out.getvalue()


def test_a_training_is_queued_with_its_parameters(admin: User) -> None:
    run(
        "train", "affinity", "--dataset", "bindingdb_sample", "--mode", "smoke_test",
        "-p", "epochs=7", "--detach",
    )  # fmt: skip
    task = Task.objects.get()
    assert (task.owner, task.state) == (admin, State.PENDING)
    assert task.params["params"]["epochs"] == 7
    assert task.params["params"]["mode"] == "smoke_test"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "none", "--dataset", "bindingdb_sample"], "no recipe"),
        (["train", "affinity", "--dataset", "none"], "none"),
        (["train", "affinity", "--dataset", "bindingdb_sample", "-p", "epochs"], "NAME=VALUE"),
        (["train", "affinity", "--dataset", "bindingdb_sample", "-p", "epochs=0"], "epochs"),
        (["train", "affinity", "--dataset", "bindingdb_sample", "--user", "nobody"], "no user"),
        (["logs", "x"], "not a task's id"),
        (["cancel", "-"], "not a task's id"),
    ],
)  # fmt: skip
def test_wrong_use_is_a_sentence_and_code_2(
    admin: User, words: list[str], said: str
) -> None:
    with pytest.raises(CommandError, match=said) as caught:
        run(*words)
    assert caught.value.returncode == 2
    assert not Task.objects.exists()


@pytest.mark.parametrize("command", ["logs", "cancel"])
def test_what_is_not_there_is_a_sentence_and_code_1(db: None, command: str) -> None:
    with pytest.raises(CommandError, match="no task 7") as caught:
        run(command, "7")
    assert caught.value.returncode == 1


def test_tasks_are_listed_with_why_they_failed(
    submit: Callable[..., Task], node: Any
) -> None:
    task = submit(name="mine")
    task.assign(node)
    task.start(node)
    task.fail("error", "so it is")
    line = run("tasks").splitlines()[1]
    assert "mine" in line
    assert "so it is" in line
    assert json.loads(run("tasks", json=True))[0]["reason"] == "error"


def test_cancel_cancels_and_again_says_so(submit: Callable[..., Task]) -> None:
    task = submit()
    for _ in range(2):
        assert "cancelled" in run("cancel", str(task.pk))
    task.refresh_from_db()
    assert task.state == State.CANCELLED


def test_a_log_is_printed_whole(
    submit: Callable[..., Task], capsys: pytest.CaptureFixture[str]
) -> None:
    task = submit()
    logs.path(task).parent.mkdir(parents=True)
    logs.path(task).write_text("line\n" * 300_000)
    out = run("logs", str(task.pk)) + capsys.readouterr().out
    assert out.count("line") == 300_000
