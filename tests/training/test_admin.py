from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from registry import clock
from registry.models import Task
from tests.registry.admin_pages import enter
from training.models import Metric

LIST = "admin:training_metric_changelist"


@pytest.fixture
def site(admin: User) -> Client:
    return enter(admin)


@pytest.fixture
def points(submit: Callable[..., Task]) -> list[Metric]:
    return [
        Metric.objects.create(
            task=submit(), name="loss", step=3, value=0.5, attempt=1, at=clock.now()
        )
        for _ in range(2)
    ]


def test_the_points_of_one_task_are_listed(site: Client, points: list[Metric]) -> None:
    one = points[0]
    listed = site.get(f"{reverse(LIST)}?task={one.task_id}")
    assert list(listed.context["cl"].result_list) == [one]


def test_a_point_is_shown_and_not_changed(site: Client, points: list[Metric]) -> None:
    address = reverse("admin:training_metric_change", args=[points[0].pk])
    assert "0.5" in site.get(address).content.decode()
    assert site.post(address, {"value": "9"}).status_code == 403
    assert site.get(reverse("admin:training_metric_add")).status_code == 403


@pytest.mark.parametrize("value", ["%00", "abc", "9" * 25, "-1", "%FF", ""])
@pytest.mark.parametrize("key", ["task", "q", "p", "id__exact", "step__in"])
def test_no_address_is_an_error_of_the_server(
    site: Client, points: list[Metric], key: str, value: str
) -> None:
    answer = site.get(f"{reverse(LIST)}?{key}={value}")
    assert answer.status_code in (200, 302, 400)
