"""The commands that choose tasks and order something for them, and those of lanes and limits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from registry import arrays, submission
from registry.models import Lane, Node, Reservation, Task, UserLimit
from registry.states import State

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]


def run(*args: Any) -> str:
    out = io.StringIO()
    call_command(*map(str, args), stdout=out, stderr=io.StringIO())
    return out.getvalue()


def refused(*args: Any) -> tuple[int, str]:
    with pytest.raises(CommandError) as caught:
        run(*args)
    return caught.value.returncode, str(caught.value)


@pytest.fixture
def failed(submit: Submit, node: Node) -> Callable[..., Task]:
    def failed(reason: str = "error", **fields: Any) -> Task:
        task = submit(**fields)
        task.assign(node)
        task.start(node)
        task.fail(reason, "It broke.")
        return task

    return failed


def state(task: Task) -> str:
    return Task.objects.get(pk=task.pk).state


def test_the_poison_list_is_shown_retried_and_removed(
    failed: Callable[..., Task], node: Node
) -> None:
    Node.objects.update(draining=True)  # so that nothing is placed at once
    poison, other = failed("bad_data"), failed("error")
    chosen = ("--state", "failed", "--reason", "bad_data")
    (line,) = run("tasks", *chosen).splitlines()[1:]
    assert line.startswith(f"{poison.pk}\t")
    assert "It broke." in line
    assert run("retry", *chosen, "--from", "start") == "1 task was retried.\n"
    assert Task.objects.get(pk=poison.pk).resume_from == "start"
    assert state(other) == State.FAILED
    assert run("retry", *chosen) == "0 tasks were retried.\n"
    assert json.loads(run("purge", other.pk, "--json")) == {
        "done": [str(other.pk)],
        "refused": [],
    }
    assert not Task.objects.filter(pk=other.pk).exists()


def test_all_that_match_are_met_however_many(
    failed: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry import many

    monkeypatch.setattr(many, "MOST", 2)
    for _ in range(5):
        failed()
    assert run("purge", "--reason", "error") == "5 tasks were removed.\n"


def test_what_is_refused_is_told_and_fails_the_command(
    failed: Callable[..., Task], submit: Submit
) -> None:
    good, waiting = failed(), submit()
    code, text = refused("purge", good.pk, waiting.pk, 10**9)
    assert (code, text) == (1, "2 of 3 were refused.")
    assert list(Task.objects.values_list("pk", flat=True)) == [waiting.pk]


@pytest.mark.parametrize(
    "command",
    [
        "retry", "purge", "pause", "resume", "purge x", "purge -- -1",
        "purge --kind train", "purge ID --state failed", "purge --state failed --lane x",
        "purge --array x", "retry ID --from middle", "tasks --state odd", "tasks --lane x",
        "priority ID 1001", "priority x 1", "lanes pause", "lanes pause tpu", "lanes stop cpu",
        "limits set", "limits set default --cpus -1", "limits set default --cpus x",
        "limits show nobody", "why x", "reserve a --for 1h", "reserve a --for soon --lane cpu",
        "reserve a --for 0h --lane cpu --cpus 1", "reserve a --lane cpu --cpus 1",
        "reserve a --for 1h --lane cpu --cpus 1 --users nobody",
        "reserve a --for 99999d --lane cpu --cpus 1 --from 9999-01-01T00:00Z",
        "reserve a --until 2001-01-01T00:00Z --lane cpu --cpus 1",
        "reserve a --for 1h --lane cpu --cpus -1", "reserve a/b --for 1h --lane cpu --cpus 1",
    ],
)  # fmt: skip
def test_wrong_use_is_exit_code_2_and_changes_nothing(
    command: str, submit: Submit
) -> None:
    task = submit()
    before = Task.objects.filter(pk=task.pk).values().get()
    with pytest.raises((CommandError, SystemExit)) as caught:
        call_command_as_typed(command.replace("ID", str(task.pk)))
    error = caught.value
    code = error.returncode if isinstance(error, CommandError) else error.code
    assert code == 2, error
    assert Task.objects.filter(pk=task.pk).values().get() == before
    assert not Reservation.objects.exists()
    assert not UserLimit.objects.exists()


def call_command_as_typed(command: str) -> None:
    """As from a shell, where a wrong argument ends the process with code 2."""
    from django.core.management import load_command_class

    name, *args = command.split()
    one = load_command_class("registry", name)
    one._called_from_command_line = True
    parser = one.create_parser("manage.py", name)
    options = vars(parser.parse_args(args))
    positional = options.pop("args", ())
    one.execute(*positional, **options)


@pytest.mark.parametrize(
    "command", ["why 9", "priority 9 1", "pause 9", "limits set nobody", "reservations --remove x"]
)  # fmt: skip
def test_what_is_not_there_is_exit_code_1(command: str, db: None) -> None:
    assert refused(*command.split())[0] == 1


def test_a_running_task_is_asked_to_pause_and_a_paused_one_goes_on(
    submit: Submit, node: Node
) -> None:
    task = submit()
    task.assign(node)
    task.start(node)
    assert run("pause", task.pk) == "1 task was asked to pause.\n"
    Task.objects.get(pk=task.pk).pause()
    Node.objects.update(draining=True)
    assert run("resume", task.pk) == "1 task was resumed.\n"
    assert state(task) == State.PENDING
    assert refused("pause", task.pk)[0] == 1


def test_a_new_priority_is_for_a_whole_array(alice: User) -> None:
    head = submission.accept(
        array=arrays.parse("0-2"), kind="train", lane="cpu", owner=alice
    )
    assert run("priority", head.pk, 7) == f"Task {head.pk} has the priority 7.\n"
    assert set(head.elements.values_list("priority", flat=True)) == {7}


def test_why_tells_all_reasons_and_the_start(submit: Submit, time: Any) -> None:
    task = submit()
    reasons = ["Needs 8 CPUs; cpu@a has 3 free.", "Your limit is 4 CPUs."]
    Task.objects.filter(pk=task.pk).update(waiting_for=reasons, estimated_start=time())
    assert run("why", task.pk).splitlines() == [
        f"Task {task.pk} is pending; it starts about 09:00 UTC.",
        *(f"- {reason}" for reason in reasons),
    ]
    told = json.loads(run("why", task.pk, "--json"))
    assert (told["waiting_for"], told["state"]) == (reasons, "pending")
    (line,) = run("tasks").splitlines()[1:]
    assert line.endswith(f"{' '.join(reasons)} (starts about 09:00 UTC)")


def test_why_tells_how_a_task_ended(failed: Callable[..., Task]) -> None:
    told = run("why", failed("out_of_memory").pk)
    assert "It broke." in told
    assert "more memory" in told


def test_a_lane_is_paused_and_resumed(submit: Submit) -> None:
    submit()
    text = run("lanes", "pause", "cpu", "--note", "A new disk.")
    assert "cpu\tpaused\t1\t0\t0\t\tA new disk." in text
    assert Lane.objects.get(pk="cpu").paused_at
    (cpu, *_) = json.loads(run("lanes", "resume", "cpu", "--json"))
    assert (cpu["name"], cpu["paused_at"]) == ("cpu", None)


def test_limits_are_set_shown_and_removed(alice: User) -> None:
    text = run("limits", "set", "alice", "--tasks", "3", "--gpus", "none")
    assert text.splitlines() == ["USER\tTASKS\tCPUS\tGPUS", "alice\t3\t-\t-"]
    run("limits", "set", "default", "--cpus", "8")
    assert len(json.loads(run("limits", "--json"))) == 2
    assert "tasks\t3\t0\t3" in run("limits", "show", "alice")
    run("limits", "remove", "alice")
    assert json.loads(run("limits", "show", "alice", "--json"))["limit"]["cpus"] == 8


def test_a_node_is_reserved_listed_and_let_go(
    node: Node, alice: User, time: Any
) -> None:
    args = ("--node", node.name, "--for", "2h", "--users", "alice")
    assert (
        run("reserve", "course", *args)
        == "course is kept until 2026-01-05 11:00 UTC.\n"
    )
    (line,) = run("reservations").splitlines()[1:]
    assert line.split("\t")[:3] == ["course", "active", node.name]
    assert line.endswith("\talice")
    assert refused("reserve", "other", *args)[0] == 1, "it would take the node twice"
    assert json.loads(run("reservations", "--remove", "course", "--json")) == []
    of_lane = ("--lane", "cpu", "--cpus", 2, "--from", "2026-01-06T08:00Z")
    until = ("--until", "2026-01-06T10:00Z", "--json")
    made = json.loads(run("reserve", "two", *of_lane, *until))
    assert (made["state"], made["resources"]["cpus"], made["users"]) == (
        "upcoming",
        2,
        [],
    )
