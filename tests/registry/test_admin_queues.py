"""Lanes, limits, reservations, arrays and dependencies in the admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from registry import arrays, limits, submission
from registry.models import Lane, Node, Reservation, Task, UserLimit
from tests.registry.admin_pages import act, at, enter, form_of, told

Submit = Callable[..., Task]


@pytest.fixture
def site(admin: User) -> Client:
    return enter(admin)


@pytest.fixture
def head(alice: User) -> Task:
    indexes = arrays.parse("0-2%2")
    return submission.accept(array=indexes, kind="train", lane="cpu", owner=alice)


def found(site: Client, query: str = "") -> set[int]:
    changes = site.get(f"{at('task_changelist')}?{query}").context["cl"]
    return {task.pk for task in changes.result_list}


def test_the_list_shows_heads_and_elements_only_when_asked_for(
    site: Client, head: Task
) -> None:
    elements = set(head.elements.values_list("pk", flat=True))
    assert found(site) == {head.pk}
    assert found(site, f"array={head.pk}") == elements
    assert found(site, "elements=shown") == {head.pk, *elements}
    assert found(site, "q=%5B") == elements


def test_the_page_of_a_task_shows_why_it_waits_and_what_hangs_on_it(
    site: Client, submit: Submit, head: Task, time: Any
) -> None:
    task, other = submit(), submit()
    other.dependencies.create(on=task, on_number=task.pk, condition="afterok")
    Task.objects.filter(pk=task.pk).update(
        waiting_for=["Needs 8 CPUs.", "Your limit is 4 CPUs."], estimated_start=time()
    )
    text = site.get(at("task_change", task.pk)).content.decode()
    assert "<p>Needs 8 CPUs.</p><p>Your limit is 4 CPUs.</p>" in text
    assert f"task {other.pk}</a> afterok" in text
    assert "afterok (open)" in site.get(at("task_change", other.pk)).content.decode()
    listed = site.get(at("task_changelist")).content.decode()
    assert "Needs 8 CPUs. (starts about 09:00 UTC)" in listed
    assert "3 elements, 2 at a time" in site.get(
        at("task_change", head.pk)
    ).content.decode()  # fmt: skip


def test_the_actions_and_the_priority_are_for_a_whole_array(
    site: Client, head: Task
) -> None:
    site.post(at("task_change", head.pk), form_of(head, priority=4))
    assert set(head.elements.values_list("priority", flat=True)) == {4}
    assert head.events.filter(verb="change").exists()
    act(site, "task", "cancel", [head])
    assert set(head.elements.values_list("state", flat=True)) == {"cancelled"}
    act(site, "task", "retry", [head])
    assert set(head.elements.values_list("state", flat=True)) == {"pending"}
    act(site, "task", "cancel", [head])
    act(site, "task", "delete_selected", [head], post="yes")
    assert not Task.objects.exists()


def test_a_lane_is_paused_and_resumed(site: Client, time: Any) -> None:
    site.post(at("lane_add"), {"name": "cpu", "note": "A new disk."})
    row = Lane.objects.get()
    assert (row.paused_at, row.note) == (time(), "A new disk.")
    site.post(at("lane_change", "cpu"), {"note": "Two disks.", "paused_at_0": ""})
    row.refresh_from_db()
    assert (row.paused_at, row.note) == (time(), "Two disks.")
    assert told(act(site, "lane", "resume", [row]))[-1] == "Resumed cpu."
    assert Lane.objects.get().paused_at is None
    assert told(act(site, "lane", "pause", [row])) == ["Paused cpu."]
    assert Lane.objects.get().paused_at is not None
    assert site.post(at("lane_add"), {"name": "tpu"}).status_code == 200
    assert Lane.objects.count() == 1


def test_a_limit_is_set_and_removed(site: Client, alice: User) -> None:
    site.post(at("userlimit_add"), {"user": alice.pk, "tasks": 3})
    assert limits.of(alice) == {"tasks": 3, "cpus": None, "gpus": None}
    row = UserLimit.objects.get()
    site.post(at("userlimit_change", row.pk), {"tasks": "", "cpus": 0})
    assert limits.of(alice) == {"tasks": None, "cpus": 0, "gpus": None}
    assert site.post(at("userlimit_add"), {"user": alice.pk}).status_code == 200
    site.post(at("userlimit_add"), {"user": "", "gpus": 2})
    again = site.post(at("userlimit_add"), {"user": "", "gpus": 5})
    assert UserLimit.objects.filter(user=None).count() == 1
    assert again.status_code == 200
    for text in ("-1", "9" * 25, "x"):
        answer = site.post(at("userlimit_add"), {"user": "", "tasks": text})
        assert answer.status_code == 200
    site.post(at("userlimit_delete", row.pk), {"post": "yes"})
    assert UserLimit.objects.filter(user=alice).count() == 0


def asked(node_: Node, alice: User, **changes: Any) -> dict[str, Any]:
    fields = {
        "name": "course", "lane": "", "node": node_.pk, "cpus": 2, "gpus": 0, "memory": 0,
        "starts_at_0": "2026-01-05", "starts_at_1": "10:00",
        "ends_at_0": "2026-01-05", "ends_at_1": "12:00", "users": [alice.pk], "note": "",
    }  # fmt: skip
    return {**fields, **changes}


def test_a_reservation_is_made_changed_and_deleted(
    site: Client, node: Node, alice: User, bob: User, time: Any
) -> None:
    answer = site.post(at("reservation_add"), asked(node, alice))
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    row = Reservation.objects.get()
    assert (row.lane, row.node, list(row.users.all())) == ("cpu", node, [alice])
    change = asked(node, alice, users=[bob.pk], cpus=4)
    assert site.post(at("reservation_change", row.pk), change).status_code == 302
    row.refresh_from_db()
    assert (row.cpus, list(row.users.all())) == (4, [bob])
    site.post(at("reservation_delete", row.pk), {"post": "yes"})
    assert not Reservation.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"node": "", "lane": ""}, "lane"),
        ({"lane": "gpu"}, "node"),
        ({"cpus": 5}, "__all__"),
        ({"cpus": 10**6}, "cpus"),
        ({"ends_at_1": "09:00"}, "ends_at"),
        ({"ends_at_0": "2020-01-01", "starts_at_0": "2019-01-01"}, "ends_at"),
        ({"name": ""}, "name"),
    ],
    ids=str,
)
def test_what_cannot_be_kept_is_refused_on_the_form(
    site: Client, node: Node, alice: User, time: Any, changes: Any, field: str
) -> None:
    answer = site.post(at("reservation_add"), asked(node, alice, **changes))
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert not Reservation.objects.exists()


def test_two_reservations_of_one_node_fit_it(
    site: Client, node: Node, alice: User, time: Any
) -> None:
    site.post(at("reservation_add"), asked(node, alice))
    second = asked(node, alice, name="second", cpus=3)
    answer = site.post(at("reservation_add"), second)
    assert "course" in str(answer.context["adminform"].form.errors)
    assert Reservation.objects.count() == 1
