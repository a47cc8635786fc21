"""Batches with hands in processes of their own: every row is there once, whatever becomes of a hand."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests import postgres
from tests.inference.hands_run import COUNT, FIRST, FORMS, SLOW
from tests.inference.test_spare import run

MODULE = ["-m", "tests.inference.hands_run"]


@pytest.fixture(scope="module")
def ran() -> dict[str, Any]:
    """What became of batches: the hand was left alone, killed, stopped; cancelled; slow to begin;
    its spare was killed; and one after that."""
    return run_in_order("plain", "kill", "stop", "cancel", "slow", "spare", "again")


def run_in_order(*modes: str) -> dict[str, Any]:
    server = []
    if os.environ.get("COMPASS_TEST_DATABASE") == "postgresql":
        server = ["--server", postgres.url()]
    found: dict[str, Any] = run(*MODULE, *server, *modes)
    return found


def test_a_hand_takes_shards_from_the_end_and_the_results_are_in_order(
    ran: dict[str, Any],
) -> None:
    found = ran["plain"]
    assert found["state"] == "completed"
    assert found["values"] == [2 * (FIRST + n) for n in range(COUNT)]
    assert found["own"] < COUNT
    assert found["lives"] == [False]
    assert not found["torch"]
    assert ran["threads"] == 1  # of the spare, which has imported all that hands need


def test_a_hand_that_only_begins_holds_nobody_up(ran: dict[str, Any]) -> None:
    found = ran["slow"]
    assert found["values"] == [2 * (FIRST + n) for n in range(COUNT)]
    assert found["seconds"] < 10.0 < SLOW
    assert found["lives"] == [False]


@pytest.mark.parametrize("way", ["kill", "stop", "spare"])
def test_a_hand_that_dies_or_stands_still_costs_the_batch_nothing(
    ran: dict[str, Any], way: str
) -> None:
    assert ran[way]["state"] == "completed"
    assert ran[way]["values"] == [2 * (FIRST + n) for n in range(COUNT)]
    assert ran[way]["lives"] == [False]


def test_a_cancel_ends_the_hands_too(ran: dict[str, Any]) -> None:
    assert ran["cancel"]["state"] == "cancelled"
    assert ran["cancel"]["lives"] == [False]
    assert ran["cancel"]["own"] < COUNT


def test_after_the_death_of_the_spare_the_next_batch_has_hands_again(
    ran: dict[str, Any],
) -> None:
    assert ran["again"]["values"] == [2 * (FIRST + n) for n in range(COUNT)]
    assert ran["again"]["own"] < COUNT
    assert len(ran["again"]["pids"]) == 1


@pytest.fixture(scope="module")
def formed() -> dict[str, Any]:
    """Batches over files, without hands and with them."""
    return run_in_order(*FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_rows_order_errors_and_counts_are_those_of_a_batch_without_hands(
    formed: dict[str, Any], form: str
) -> None:
    alone, helped = formed[form]["without"], formed[form]["with"]
    assert (alone["pids"], len(helped["pids"])) == ([], 1)
    assert helped["own"] < alone["own"]
    assert helped["result"]["failed_count"] > COUNT // 100
    assert helped["result"] == alone["result"]
    assert helped["rows"] == alone["rows"]
    expected = COUNT // 4 if form == "top" else COUNT
    assert len(helped["rows"]) >= expected
