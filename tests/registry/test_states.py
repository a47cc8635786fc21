"""The machine as data, and the page that explains it, hold each other equal."""

from __future__ import annotations

import re
from pathlib import Path

from django.db.models import CheckConstraint

from registry.models import Task
from registry.models.life import MAX_RELEASES
from registry.states import FINAL, LIVE, PLACED, REASONS, Move, Retry, State

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"
RETRIES = {Retry.FREE: "yes, freely", Retry.COUNTED: "yes, counted", Retry.NEVER: "no"}


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the first table below the heading."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def words(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def test_live_and_final_divide_the_states() -> None:
    assert set(State) == LIVE | FINAL
    assert not LIVE & FINAL
    assert PLACED < LIVE


def test_only_a_retry_leaves_a_final_state() -> None:
    leaving = {move for move in Move if move.sources & FINAL}
    assert leaving == {Move.RETRY}
    assert State.COMPLETED not in Move.RETRY.sources


def test_every_state_can_be_reached_and_every_live_one_left() -> None:
    assert {move.target for move in Move} | {State.PENDING} == set(State)
    assert set().union(*(move.sources for move in Move)) >= LIVE


def test_every_reason_says_what_to_do() -> None:
    for name, because in REASONS.items():
        assert re.fullmatch(r"[a-z_]{1,40}", name)
        assert because.hint.endswith(".")


def test_the_page_names_every_state() -> None:
    rows = table("States")
    assert [words(row[0]) for row in rows] == [{state.value} for state in State]
    final = {state for state, row in zip(State, rows, strict=True) if row[2] == "yes"}
    assert final == FINAL
    holds = {state for state, row in zip(State, rows, strict=True) if row[3] == "yes"}
    assert holds == PLACED


def test_the_chart_draws_every_move_and_no_other() -> None:
    chart = PAGE.read_text().split("```mermaid\n")[1].split("```")[0]
    drawn = set(re.findall(r"^ *(\w+) --> (\w+) *: (\w+)$", chart, re.MULTILINE))
    moves = {
        (source.value, move.target.value, move.name.lower())
        for move in Move
        for source in move.sources
    }
    assert drawn == moves
    ends = set(re.findall(r"^ *(\w+) --> \[\*\]$", chart, re.MULTILINE))
    assert ends == {state.value for state in FINAL}
    assert "[*] --> pending : submit" in chart


def test_the_page_names_every_move_from_where_it_leaves() -> None:
    rows = {row[0].strip("`"): row for row in table("Verbs")}
    assert set(rows) == {move.name.lower() for move in Move}
    for move in Move:
        row = rows[move.name.lower()]
        assert words(row[1]) == {state.value for state in move.sources}
        assert words(row[2]) == {move.target.value}
        assert row[3]
        assert row[4]


def test_the_page_names_every_reason() -> None:
    rows = [(row[0].strip("`"), row[1], row[2]) for row in table("Reasons")]
    assert rows == [
        (name, RETRIES[because.retry], because.hint)
        for name, because in REASONS.items()
    ]
    assert f"{MAX_RELEASES} placements" in PAGE.read_text()


def test_the_page_names_every_rule_of_the_database() -> None:
    rules = {
        one.name for one in Task._meta.constraints if isinstance(one, CheckConstraint)
    }
    named = {
        word for row in table("What the database refuses") for word in words(row[0])
    }
    assert {name for name in named if name.startswith("task_")} == rules


def test_the_page_takes_five_minutes() -> None:
    words = re.findall(r"[A-Za-z]{2,}", PAGE.read_text())
    assert len(words) < 5 * 260
