from __future__ import annotations

import pytest
from django.db import connection, transaction

from registry.locks import lock_until_commit
from tests.registry.race import race

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_lock_is_held_to_the_end_of_the_transaction_by_one_alone() -> None:
    inside: list[int] = []
    seen: list[int] = []

    def work() -> None:
        for _ in range(5):
            with transaction.atomic():
                lock_until_commit("work")
                inside.append(1)
                with connection.cursor() as cursor:
                    for _ in range(5):  # each gives the other threads a turn
                        cursor.execute("SELECT 1")
                        seen.append(len(inside))
                inside.pop()

    assert race([work] * 6) == [None] * 6
    assert len(seen) == 6 * 5 * 5
    assert set(seen) == {1}


def test_an_error_gives_the_lock_back() -> None:
    def fail() -> None:
        with transaction.atomic():
            lock_until_commit("work")
            raise RuntimeError("broken")

    def work() -> str:
        with transaction.atomic():
            lock_until_commit("work")
            return "done"

    results = race([fail, work, fail, work])
    assert [str(result) for result in results] == ["broken", "done"] * 2


def test_a_lock_may_be_taken_again_by_its_holder() -> None:
    with transaction.atomic():
        lock_until_commit("work")
        lock_until_commit("work")
        lock_until_commit("other")
        assert connection.in_atomic_block


def test_outside_a_transaction_there_is_nothing_to_hold_it() -> None:
    with pytest.raises(AssertionError):
        lock_until_commit("work")
