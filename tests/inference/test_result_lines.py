"""Results in JSON lines: put together from the items' own text, or told value by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inference.bulk import Batch
from inference.forms import PLAIN
from inference.sinks import Results
from inference.sinks.jsonl import AT_ONCE, JsonLines
from inference.sources.jsonl import JsonLines as Origin
from inference.sources.jsonl import Odd
from inference.texts import Typed
from registry.errors import BadItem

GOOD = {"y": 1.5}
BAD = {"error": {"code": "bad_item", "detail": "x must be a number"}}


@pytest.fixture
def sink(tmp_path: Path) -> JsonLines:
    return JsonLines(Origin(tmp_path / "items", tmp_path, Typed({})), PLAIN)


def written(sink: JsonLines, *records: tuple[bytes, Any, Any]) -> list[dict[str, Any]]:
    raws, items, answers = map(list, zip(*records, strict=True))
    kept = Batch.kept(_plain(), items)
    piece = sink.piece(Results(range(1, 1 + len(raws)), raws, kept, answers))
    lines = b"".join(piece).splitlines()
    assert all(line.isascii() for line in lines)
    return [json.loads(line) for line in lines]


def _plain() -> Batch:
    batch = Batch.__new__(Batch)
    batch.form = PLAIN
    return batch


def test_an_item_stands_as_it_was_given(sink: JsonLines) -> None:
    piece = sink.piece(Results([7], [b'{"x": 1.50}'], [None], [GOOD]))
    expected = b'{"row":7,"input":{"x": 1.50},"success":true,"output":{"y":1.5}}\n'
    assert b"".join(piece) == expected


@pytest.mark.parametrize("name", ["a", 7, None, 2**70, "é", ["a", {"b": 1}]])
def test_an_id_stands_between_row_and_input(sink: JsonLines, name: Any) -> None:
    item = {"id": name, "x": 1}
    (found,) = written(sink, (json.dumps(item).encode(), item, GOOD))
    assert [*found] == ["row", "id", "input", "success", "output"]
    assert (found["id"], found["input"]) == (name, item)


def test_neighbours_of_an_odd_record_are_told_as_ever(sink: JsonLines) -> None:
    plain = (b'{"x":1}', {"x": 1}, GOOD)
    found = written(
        sink,
        plain,
        (b'{"x":"bad"}', {"x": "bad"}, BAD),
        ('{"x":"é"}'.encode(), {"x": "é"}, GOOD),
        (Odd(b'{"x":\r2}'), {"x": 2}, GOOD),
        (b" no JSON ", BadItem("The line is no JSON."), BAD),
        plain,
    )
    told = [(one["row"], one["input"], one["success"]) for one in found]
    assert told == [
        (1, {"x": 1}, True),
        (2, {"x": "bad"}, False),
        (3, {"x": "é"}, True),
        (4, {"x": 2}, True),
        (5, "no JSON", False),
        (6, {"x": 1}, True),
    ]
    assert [one.get("error") for one in found if not one["success"]] == [
        BAD["error"]
    ] * 2


def test_rows_count_on_from_one_piece_to_the_next(sink: JsonLines) -> None:
    found = written(sink, *[(b'{"x":1}', {"x": 1}, GOOD)] * (2 * AT_ONCE + 3))
    assert [one["row"] for one in found] == [*range(1, 2 * AT_ONCE + 4)]
