"""What a pass is shown of the line, and how often it asks the database for that."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from registry import demands
from registry.models import Task
from tests.conftest import Clock

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]


def test_many_users_are_looked_at_by_no_more_statements_than_one(
    submit: Submit, time: Clock
) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as asked:
            demands.look(time())
        return len(asked)

    submit()
    alone = statements()
    for number in range(12):
        owner = User.objects.create_user(f"user{number}")
        for lane in ("cpu", "gpu"):
            submit(owner=owner, lane=lane)
    assert len(demands.look(time())) == 25
    assert statements() == alone + 1  # one for each lane in which somebody waits


def test_a_demand_tells_what_its_row_says_and_how_long_it_waited(
    submit: Submit, time: Clock
) -> None:
    task = submit(priority=3, cpus=2, memory=5, expected=60)
    Task.objects.filter(pk=task.pk).update(waiting_for=["é", 'a "b"'])
    moment = time() + datetime.timedelta(days=900, microseconds=1)
    demand, said, start = demands.look(moment)[task.pk]
    assert demand.waited == (moment - time()).total_seconds()
    assert demand[:2] == (task.pk, "cpu")
    assert (demand.owner, demand.priority) == (task.owner_id, 3)
    assert (demand.needs.cpus, demand.needs.memory) == (2, 5)
    assert (demand.lasts, demand.is_limit) == (60, False)
    assert (said, start) == (("é", 'a "b"'), None)
