"""Shadows: compared when nobody waits, dropped when many do, and never in an answer's way."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from inference import mirror
from inference.differences import difference
from inference.frames import Answer, Status
from inference.mirror import Mirror
from registry.errors import Problem
from registry.tally import merged, quantile

SECOND, FIRST, SHADOW = 7, 1, 2


class Scene:
    """A mirror whose steps a test takes, with what it asked and wrote."""

    def __init__(self) -> None:
        self.now, self.is_idle, self.has_room = 0.0, True, True
        self.asked: list[list[Any]] = []
        self.rows: dict[int, list[Any]] = {}
        self.problem: Problem | None = None
        self.is_away = False
        self.mirror = Mirror(
            self.predict, is_idle=lambda: self.is_idle, has_room=lambda _: self.has_room,
            write=self.write, monotonic=lambda: self.now, sleep=self.sleep,
        )  # fmt: skip
        self.mirror._thread = threading.current_thread()  # none of its own

    def predict(self, version: int, items: Any) -> list[dict[str, Any]]:
        assert version == SHADOW
        if self.problem:
            raise self.problem
        self.asked.append(list(items))
        self.now += 0.25 if items else 100.0
        bad = {"error": {"code": "bad_item", "detail": "no"}}
        return [bad if one["x"] == 9 else {"y": 2.0 * one["x"] + 0.5} for one in items]

    def write(self, second: int, figures: Any) -> None:
        if self.is_away:
            raise OSError("away")
        self.rows.setdefault(second, []).append(figures)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def note(self, *xs: float, shadow: int = SHADOW, spent: float = 0.125) -> None:
        lists = [json.dumps([{"x": x}]).encode() for x in xs]
        answers: list[Answer] = [
            (Status.OUTPUTS, json.dumps([{"y": 2.0 * x}]).encode()) for x in xs
        ]
        self.mirror.note((SECOND, shadow), FIRST, lists, answers, spent)

    def written(self) -> Any:
        self.mirror.write()
        (figures,) = self.rows.pop(SECOND)
        return figures


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_both_answered_is_compared(scene: Scene) -> None:
    scene.note(1, 2, 9)
    assert scene.mirror.step()
    figures = scene.written()
    shadow = figures["shadow"]
    assert (shadow["compared"], shadow["items"], shadow["values"]) == (3, 3, 2)
    assert shadow["difference"] == pytest.approx(1.0)
    assert shadow["greatest_difference"] == pytest.approx(0.5)
    assert (shadow["first_errors"], shadow["second_errors"]) == (0, 1)
    assert figures["answered"][str(FIRST)]["count"] == 3


def test_the_time_to_load_is_none_of_its_latency(scene: Scene) -> None:
    scene.note(1)
    scene.mirror.step()
    latency = scene.written()["shadow"]["second"]["seconds"]
    assert quantile(latency, 0.5) == pytest.approx(0.25, rel=0.2)


def test_while_somebody_waits_no_shadow_is_asked(scene: Scene) -> None:
    scene.note(1)
    scene.is_idle = False
    assert not scene.mirror.step()
    assert scene.asked == []
    scene.is_idle = True
    assert scene.mirror.step()


def test_what_finds_no_place_is_dropped_and_counted(scene: Scene) -> None:
    for _ in range(mirror.MOST_WAITING + 3):
        scene.note(1, 2)
    assert len(scene.mirror._waiting) == mirror.MOST_WAITING
    figures = scene.written()
    assert figures["shadow"]["dropped"] == 6
    assert figures["answered"][str(FIRST)]["count"] == 2 * (mirror.MOST_WAITING + 3)


def test_what_waits_is_bounded_in_bytes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MOST_BYTES", 50)
    scene.note(1)
    scene.note(2)
    scene.note(3)
    assert scene.mirror._bytes <= 50
    assert scene.written()["shadow"]["dropped"] >= 1
    while scene.mirror.step():
        pass
    assert scene.mirror._bytes == 0


def test_a_large_batch_is_dropped(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "LARGEST", 10)
    scene.note(1)
    assert not scene.mirror._waiting
    assert scene.written()["shadow"]["dropped"] == 1


def test_a_shadow_without_room_drives_no_other_model_out(scene: Scene) -> None:
    scene.has_room = False
    scene.note(1)
    assert scene.mirror.step()
    assert scene.asked == []
    assert scene.written()["shadow"]["dropped"] == 1


def test_a_shadow_that_cannot_load_is_an_error_of_each_item(scene: Scene) -> None:
    scene.problem = Problem("model_unavailable", "It is broken.")
    scene.note(1, 2)
    scene.mirror.step()
    shadow = scene.written()["shadow"]
    assert (shadow["items"], shadow["second_errors"]) == (2, 2)
    assert "second" not in shadow


def test_between_its_pieces_it_waits_for_quiet_and_gives_up_at_last(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PIECE", 1)
    scene.note(1, 2, 3)
    before = scene.predict

    def predict(version: int, items: Any) -> list[dict[str, Any]]:
        scene.is_idle = not items
        return before(version, items)

    scene.mirror._predict = predict
    assert scene.mirror.step()
    assert scene.asked == [[], [{"x": 1}]]
    assert scene.written()["shadow"]["dropped"] == 3


def test_a_split_is_counted_by_version_and_compared_with_nothing(scene: Scene) -> None:
    scene.note(1, shadow=0)
    scene.mirror.note(
        (SECOND, 0), SHADOW, [b"[1]", b"[2]"],
        [(Status.PROBLEM, b"{}"), (Status.OUTPUTS, b'[{"error":{"code":"bad_item"}}]')], 0.1,
    )  # fmt: skip
    assert not scene.mirror.step()
    answered = scene.written()["answered"]
    assert (answered[str(FIRST)]["count"], answered[str(FIRST)]["errors"]) == (1, 0)
    assert (answered[str(SHADOW)]["count"], answered[str(SHADOW)]["errors"]) == (2, 2)


def test_what_the_other_lane_answers_is_not_counted(scene: Scene) -> None:
    scene.mirror.note((SECOND, 0), FIRST, [b"x"], [(Status.ODD, b"")], 0.1)
    scene.mirror.write()
    assert not scene.rows


def test_what_cannot_be_written_is_kept(scene: Scene) -> None:
    scene.note(1)
    scene.is_away = True
    with pytest.raises(OSError, match="away"):
        scene.mirror.write()
    scene.is_away = False
    scene.note(2)
    assert scene.written()["answered"][str(FIRST)]["count"] == 2


def test_whatever_happens_in_counting_the_answer_stands(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene.mirror, "_offer", lambda batch: 1 / 0)
    scene.note(1)


def test_texts_and_names_that_differ_are_no_numbers() -> None:
    one = [{"y": 1, "t": "a", "l": [1, 2], "b": True}, {"y": 1}, {"y": 1}]
    two = [{"y": 3, "t": "b", "l": [1, 2.5], "b": True}, {"z": 1}, {"y": 1}]
    found = difference(one, two)
    assert found["different"] == 2
    assert (found["values"], found["greatest_difference"]) == (4, 2.0)
    assert found["difference"] == pytest.approx(2.5)
    assert found["outputs"]["l"]["greatest_difference"] == 0.5
    assert found["outputs"]["y"]["values"] == 2


def test_numbers_of_any_size_are_apart_by_a_finite_number() -> None:
    found = difference([{"y": 1.7e308}, {"y": 10**400}], [{"y": -1.7e308}, {"y": 1}])
    assert found["greatest_difference"] == found["difference"] == 1e308
    assert json.dumps(merged(found, found), allow_nan=False)


def test_closing_writes_what_was_counted(scene: Scene) -> None:
    scene.mirror._thread = None
    scene.mirror._monotonic = lambda: 0.0
    scene.note(1, shadow=0)
    thread = scene.mirror._thread
    assert isinstance(thread, threading.Thread)
    scene.mirror._sleep = lambda seconds: None
    scene.mirror.close()
    assert not thread.is_alive()
    assert sum(one["answered"][str(FIRST)]["count"] for one in scene.rows[SECOND]) == 1


def test_one_that_is_closed_while_it_looks_whether_anybody_waits_asks_nothing(
    scene: Scene,
) -> None:
    scene.note(1)
    scene.mirror._thread = None

    def close() -> bool:
        scene.mirror.close()
        return True

    scene.mirror._is_idle = close
    assert not scene.mirror.step()
