from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from django.contrib import admin as django_admin
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from registry import clock, lanes, limits
from registry.models import (
    ApiKey,
    IdempotencyKey,
    ModelVersion,
    Node,
    Pulse,
    Reservation,
    Second,
    Service,
    ServiceEvent,
    Task,
    Traffic,
    Upload,
    Use,
)
from registry.states import State
from tests.registry.admin_pages import act, at, enter, form_of, make_version
from tests.registry.lives import bring

NAMES = (
    "task", "attempt", "taskevent", "node", "pulse", "upload", "service",
    "serviceevent", "model", "modelversion", "alias", "apikey", "idempotencykey",
    "lane", "userlimit", "use", "reservation", "dependency", "second", "traffic",
)  # fmt: skip
PAGES = [
    *(f"registry_{name}" for name in NAMES),
    "django_celery_results_taskresult", "django_celery_results_groupresult",
    "auth_user", "auth_group",
]  # fmt: skip
HUGE = "9" * 25
ODD = ("%00", "abc", HUGE, "%FF", "-1", "9" * 5000, "1e9", "%C2%B2", "_00", "'")
KEYS = (
    "id__exact", "id__in", "name__exact", "q", "p", "o", "e", "_to_field",
    "_changelist_filters", "created_at__gte", "last_login__year", "date_done__year",
)  # fmt: skip
SITE = django_admin.site


@pytest.fixture
def site(admin: User) -> Client:
    return enter(admin)


@pytest.fixture
def version(alice: User) -> ModelVersion:
    return make_version(alice)


@pytest.fixture
def rows(submit: Callable[..., Task], node: Node, version: ModelVersion) -> Task:
    """At least one row in every table."""
    moment = clock.now()
    task = bring(submit(name="one"), State.FAILED, node)
    Second.put(version.model.point("champion", version), version, None)
    Traffic.note("raw", {"count": 1})
    ApiKey.make(task.owner, "laptop")
    Pulse.record("dispatch")
    Upload.objects.create(
        name="a", filename="a.csv", state="receiving", owner=task.owner,
        created_at=moment, touched_at=moment,
    )  # fmt: skip
    Service.objects.create(
        service_name="s", host="h", port=1, incarnation="i", state="up",
        registered_at=moment, beat_at=moment,
    )  # fmt: skip
    ServiceEvent.objects.create(
        service_name="s", instance=1, address="h:1", at=moment, state="up"
    )
    IdempotencyKey.objects.create(
        user=task.owner, key="k", request="r", status=202, created_at=moment,
        body={"key": "cmp_secret"},
    )  # fmt: skip
    other = submit()
    other.dependencies.create(on=task, on_number=task.pk, condition="afterok")
    lanes.pause("cpu", "A new disk.")
    limits.put(None, {"tasks": 3})
    Use.add(task.owner_id, 60.0, moment)
    Reservation.objects.create(
        name="course", lane="cpu", node=node, starts_at=moment,
        ends_at=moment + datetime.timedelta(hours=1),
    )  # fmt: skip
    return task


def test_the_site_is_compass_and_has_every_table(site: Client, rows: Task) -> None:
    front = site.get(reverse("admin:index")).content.decode()
    assert "Compass" in front
    for name in NAMES:
        assert at(f"{name}_changelist") in front


@pytest.mark.parametrize("name", NAMES)
def test_every_table_has_a_list_and_a_page(site: Client, rows: Task, name: str) -> None:
    model = next(m for m in SITE._registry if m._meta.model_name == name)
    row = model._default_manager.first()
    assert row is not None
    listed = site.get(at(f"{name}_changelist"))
    shown = site.get(at(f"{name}_change", row.pk))
    assert (listed.status_code, shown.status_code) == (200, 200)
    assert escape(str(row)) in shown.content.decode()


@pytest.mark.parametrize("name", NAMES)
def test_only_what_staff_decide_can_be_added(
    site: Client, rows: Task, name: str
) -> None:
    allowed = name in ("apikey", "alias", "lane", "userlimit", "reservation")
    assert site.get(at(f"{name}_add")).status_code == (200 if allowed else 403)


def test_who_is_not_staff_stays_outside(alice: User, rows: Task) -> None:
    client = Client()
    client.force_login(alice)
    answer = client.get(at("task_changelist"))
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("admin:login"))


def test_staff_need_the_permission_of_the_table(bob: User, rows: Task) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    view = Permission.objects.get(codename="view_task")
    bob.user_permissions.add(view)
    client = Client()
    client.force_login(bob)
    assert client.get(at("task_changelist")).status_code == 200
    assert client.get(at("node_changelist")).status_code == 403
    assert client.post(at("task_change", rows.pk), form_of(rows)).status_code == 403
    act(client, "task", "retry", [rows])
    rows.refresh_from_db()
    assert rows.state == State.FAILED


def test_a_first_answer_that_may_hold_a_secret_is_not_shown(
    site: Client, rows: Task
) -> None:
    key = IdempotencyKey.objects.get()
    assert (
        "cmp_secret"
        not in site.get(at("idempotencykey_change", key.pk)).content.decode()
    )


@pytest.mark.parametrize("page", PAGES)
def test_no_address_of_a_list_is_an_error_of_the_server(
    site: Client, rows: Task, page: str
) -> None:
    home = reverse(f"admin:{page}_changelist")
    model = next(
        m for m in SITE._registry if page == f"{m._meta.app_label}_{m._meta.model_name}"
    )
    own = [
        getattr(one, "parameter_name", f"{one}__exact")
        for one in SITE._registry[model].list_filter
    ]
    for key in (*KEYS, *own):
        for value in ODD[:5]:
            answer = site.get(f"{home}?{key}={value}")
            assert answer.status_code in (200, 302, 400), (key, value)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("view", ["change", "delete"])
def test_no_key_of_a_row_is_an_error_of_the_server(
    site: Client, rows: Task, page: str, view: str
) -> None:
    home = reverse(f"admin:{page}_changelist")
    for value in ODD:
        answer = site.get(f"{home}{value}/{view}/")
        assert answer.status_code in (200, 302, 400, 403, 404), value[:30]


@pytest.mark.parametrize("page", ["registry_task", "auth_user"])
@pytest.mark.parametrize("key", ["\x00", "abc", HUGE, "9" * 5000, ""])
def test_an_action_on_an_odd_key_is_refused(
    site: Client, rows: Task, page: str, key: str
) -> None:
    asked = {"action": "cancel", "_selected_action": key}
    answer = site.post(reverse(f"admin:{page}_changelist"), asked)
    assert answer.status_code == 400


def test_a_list_of_users_keeps_its_filters(site: Client, rows: Task) -> None:
    address = f"{reverse('admin:auth_user_changelist')}?is_staff__exact=1"
    assert [user.username for user in site.get(address).context["cl"].result_list] == [
        "admin"
    ]
