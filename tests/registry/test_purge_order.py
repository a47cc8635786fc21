"""A purge beside a pass of the placement, stopped before each of their statements in turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection

from registry import arrays, dependencies, orders, scheduler
from registry.models import Node, Task
from registry.states import State
from registry.submission import accept
from tests.registry.interleaving import beside
from tests.registry.lives import again, bring

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        connection.vendor != "postgresql", reason="SQLite has one writer at a time"
    ),
]


@pytest.mark.parametrize("is_purge_first", [True, False])
def test_wherever_one_meets_the_other_both_get_through(
    is_purge_first: bool, node: Node, alice: User, submit: Callable[..., Task]
) -> None:
    at, has_stopped = 0, True
    while has_stopped:
        at += 1
        ended, head = _what_both_touch(node, alice, submit)
        calls = [lambda one=ended: orders.purge(one), scheduler.dispatch]
        one, other = calls if is_purge_first else calls[::-1]
        has_stopped, results = beside(one, other, at=at)
        wrong = [one for one in results if isinstance(one, Exception)]
        assert not wrong, f"before statement {at}: {wrong}"
        assert not Task.objects.filter(pk=ended.pk).exists()
        assert not again(head).held
        for element in head.elements.exclude(state=State.CANCELLED):
            again(element).request_cancel()
    assert at > 10


def _what_both_touch(
    node: Node, alice: User, submit: Callable[..., Task]
) -> tuple[Task, Task]:
    """A task that has ended, and an array that waits for it and is to be settled as well."""
    ended = bring(submit(), State.RUNNING, node)
    wanted = dependencies.check(alice, {"afterok": [ended.pk]})
    array = arrays.parse("0-1")
    head = accept(kind="train", lane="cpu", owner=alice, array=array, depends_on=wanted)
    first = head.elements.order_by("pk")[0]
    first.request_cancel()
    again(ended).complete({})
    return ended, head
