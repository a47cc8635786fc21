"""A node is emptied: by what runs there ending, or by its going on elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from registry import draining
from registry.models import Incident, Node, Task
from registry.resources import GIB
from registry.scheduler import dispatch
from registry.states import State
from tests.conftest import Clock, Messages, client_of, make_node
from tests.registry.lives import again, bring

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]


def test_a_draining_node_gets_nothing_new_and_what_runs_ends_there(
    node: Node, submit: Submit, messages: Messages
) -> None:
    running = bring(submit(), State.RUNNING, node)
    assigned = bring(submit(), State.ASSIGNED, node)
    waiting = submit()
    draining.drain(node, "finish", "new disks")
    dispatch()
    assert again(waiting).state == State.PENDING
    assert (again(running).state, again(assigned).state) == ("running", "assigned")
    assert again(running).release_requested_at is None
    assert (node.draining, node.drain_note, messages.revoked) == (True, "new disks", [])


def test_moved_off_what_has_not_begun_waits_again_and_what_runs_is_asked(
    node: Node, submit: Submit, messages: Messages
) -> None:
    running = bring(submit(), State.RUNNING, node)
    assigned = bring(submit(), State.ASSIGNED, node)
    elsewhere = bring(submit(), State.RUNNING, make_node("cpu@two"))
    draining.drain(node, "move")
    assert assigned.attempts.get(number=1).reason == "drained"
    assert again(assigned).node == elsewhere.node
    assert again(running).state == State.RUNNING
    assert again(running).release_requested_at is not None
    assert messages.revoked == [running.celery_id]
    assert again(elsewhere).release_requested_at is None


@pytest.mark.parametrize(("retries", "is_asked"), [(0, False), (1, True)])
def test_a_script_moves_only_if_it_may_be_run_again(
    node: Node, submit: Submit, retries: int, is_asked: bool
) -> None:
    script = bring(submit(kind="script", max_retries=retries), State.RUNNING, node)
    waits = bring(submit(kind="script"), State.ASSIGNED, node)
    draining.drain(node, "move")
    assert (again(script).release_requested_at is not None) is is_asked
    assert again(waits).state == State.PENDING


def test_it_is_drained_when_nothing_is_left_and_takes_work_again(
    node: Node, submit: Submit, admin: User
) -> None:
    api = client_of(admin, "read", "admin")
    task = bring(submit(), State.RUNNING, node)
    address = f"/api/v1/nodes/{node.name}"
    answer = api.post(
        f"{address}/drain", {"mode": "finish", "note": "new disks"}, format="json"
    )
    assert answer.status_code == 202
    shown = answer.json()
    assert (shown["state"], shown["drain_note"]) == ("draining", "new disks")
    task.complete({})
    assert api.get(address).json()["state"] == "drained"
    waiting = submit()
    shown = api.post(f"{address}/undrain").json()
    assert (shown["state"], shown["draining"], shown["drain_note"]) == ("up", False, "")
    dispatch()
    assert again(waiting).state == State.ASSIGNED


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"mode": "at once"}, "mode"),
        ({"mode": None}, "mode"),
        ({"mode": ["move"]}, "mode"),
        ({"note": "x" * 201}, "note"),
        ({"notes": "x"}, "notes"),
    ],
)
def test_a_bad_order_to_drain_is_refused_by_field(
    node: Node, admin: User, body: dict[str, Any], field: str
) -> None:
    api = client_of(admin, "read", "admin")
    answer = api.post(f"/api/v1/nodes/{node.name}/drain", body, format="json")
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [field]
    node.refresh_from_db()
    assert not node.draining


def test_without_a_body_what_runs_finishes(node: Node, admin: User) -> None:
    api = client_of(admin, "read", "admin")
    assert api.post(f"/api/v1/nodes/{node.name}/drain").status_code == 202
    assert api.post("/api/v1/nodes/cpu@nowhere/drain").status_code == 404


def test_nodes_show_what_is_free_and_what_keeps_work_away(
    api: Any, submit: Submit, time: Clock
) -> None:
    text = "GPU 1 is used by process 4711 (alice, python3, 3.2 GiB) outside Compass."
    gpus = [
        {"index": index, "name": "Test", "memory": GIB, "busy": text * (index == 1)}
        for index in range(3)
    ]
    node = make_node("gpu@one", gpus=gpus, status={"short": "has no disk left"})
    task = submit(lane="gpu", gpus=1, cpus=3, memory=GIB)
    task.assign(node, [0])
    shown = api.get("/api/v1/nodes/gpu@one").json()
    assert shown["free"] == {"cpus": 1, "gpus": 1, "memory": 7 * GIB}
    assert shown["used"] == {"cpus": 3, "gpus": 1, "memory": GIB}
    assert [gpu["busy"] for gpu in shown["gpus"]] == ["", text, ""]
    assert shown["short"] == "gpu@one has no disk left."


def test_rescues_are_shown_the_newest_first(api: Any, time: Clock) -> None:
    Incident.record("rescue", "Found 1.", summary={"found": 1})
    time.forward(seconds=5)
    Incident.record("orphan", "Ended 2.", node="cpu@one", summary={"ended": 2})
    orphan, rescue = api.get("/api/v1/rescues").json()["results"]
    assert (orphan["kind"], orphan["node"]) == ("orphan", "cpu@one")
    assert rescue["summary"] == {"found": 1}
    only = api.get("/api/v1/rescues?kind=rescue").json()["results"]
    assert only == [rescue]
    assert api.get("/api/v1/rescues?kind=storm").status_code == 422


def test_a_wish_to_move_is_met_when_its_worker_dies_first(
    node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.RUNNING, node)
    draining.drain(node, "move")
    make_node(node.name)
    row = again(task)
    assert (row.state, row.release_requested_at) == (State.PENDING, None)


# Commands


def said(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_drain_undrain_and_nodes_by_command(
    node: Node, submit: Submit, messages: Messages
) -> None:
    task = bring(submit(), State.RUNNING, node)
    text = said("drain", node.name, "--note", "new disks")
    assert text == f"{node.name} is draining; 1 tasks are still there.\n"
    assert said("drain", node.name, "--move").startswith("cpu@one is draining; 1")
    assert messages.revoked == [task.celery_id]
    task.release("drained", "in the test")
    assert said("drain", node.name, "--wait") == "cpu@one is drained.\n"
    shown = json.loads(said("drain", node.name, "--json"))
    assert shown["state"] == "drained"
    assert said("undrain", node.name) == "cpu@one takes work again.\n"
    (one,) = json.loads(said("nodes", "--json"))
    assert (one["name"], one["state"]) == (node.name, "up")


def test_nodes_list_what_is_free_and_the_sentences(time: Clock) -> None:
    gpus = [{"index": 0, "name": "T", "memory": GIB, "busy": "GPU 0 is used by root."}]
    make_node("gpu@one", gpus=gpus, status={"short": "has no disk left"})
    make_node("cpu@one")
    head, *lines = said("nodes").splitlines()
    assert head.split("\t") == [
        "NODE", "STATE", "CPUS", "GPUS", "MEMORY", "RUNNING", "BEAT", "NOTE",
    ]  # fmt: skip
    assert len(lines) == 2
    assert "4 of 4\t0 of 1\t8.0 of 8.0" in lines[1]
    assert "gpu@one has no disk left. GPU 0 is used by root." in lines[1]
    assert said("nodes", "--lane", "cpu").count("\n") == 2


def test_a_node_that_is_not_there_and_one_that_stays_full_are_failures(
    node: Node, submit: Submit
) -> None:
    bring(submit(), State.RUNNING, node)
    with pytest.raises(CommandError, match="no node 'cpu@x'; there are cpu@one") as one:
        said("drain", "cpu@x")
    assert one.value.returncode == 1
    with pytest.raises(CommandError, match="1 tasks are still on cpu@one"):
        said("drain", node.name, "--wait", "--timeout", "0.01")
