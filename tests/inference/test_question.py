from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.exceptions import Ignore
from celery.exceptions import TimeoutError as TookTooLong

from inference import worker
from inference.question import Question
from inference.replies import InHand
from inference.tasks import in_hand, predict
from registry.models import ModelVersion
from tests.inference import tiny

ANSWER = {"outputs": [{"y": 2}]}
LATER = "2999-01-01T00:00:00+00:00"


class Line:
    """A broker and a worker on a clock of their own.

    `take` says of each message (0, 1, ...) how many seconds after it the answer comes, if ever;
    `dies` is when the worker gives its last sign.
    """

    def __init__(self, take: Callable[[int], float | None], dies: float = 0.0) -> None:
        self.now, self.take, self.dies = 0.0, take, dies
        self.sent: list[tuple[float, tuple[Any, ...], str | None]] = []
        self.looks, self.removed = 0, 0
        self.broken: set[int] = set()
        self.backend = self
        self.id = "one"

    def monotonic(self) -> float:
        return self.now

    def apply_async(self, args: Any, *, task_id: str | None = None, **_: Any) -> Line:
        self.sent.append((round(self.now, 1), args, task_id))
        if len(self.sent) - 1 in self.broken:
            raise ConnectionError("gone")
        return self

    def get(self, timeout: float, **_: Any) -> Any:
        answers = [
            moment + seconds
            for number, (moment, _, _) in enumerate(self.sent)
            if (seconds := self.take(number)) is not None
        ]
        if answers and min(answers) <= self.now + timeout:
            self.now = max(self.now, min(answers))
            return ANSWER
        self.now += timeout
        raise TookTooLong

    def sign_of(self, request: str) -> Any:
        assert request == "one"
        self.looks += 1
        return min(self.now, self.dies) or None

    def remove_pending_result(self, asked: Line) -> None:
        assert asked is self
        self.removed += 1

    def moments(self) -> list[float]:
        return [moment for moment, _, _ in self.sent]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[Line], Any]:
    def ask(line: Line) -> Any:
        monkeypatch.setattr(predict, "apply_async", line.apply_async)
        monkeypatch.setattr(predict, "sign_of", line.sign_of)
        return Question((1, [{}], LATER), "(tiny:1)", line.monotonic).answer(30.0)

    return ask


def test_an_ordinary_request_is_one_message_and_no_look(
    ask: Callable[[Line], Any],
) -> None:
    line = Line(lambda number: 0.5)
    assert ask(line) == ANSWER
    assert line.sent == [(0.0, (1, [{}], LATER), None)]
    assert line.looks == 0


def test_a_message_lost_with_its_worker_is_sent_again_under_its_id(
    ask: Callable[[Line], Any],
) -> None:
    line = Line(lambda number: 0.1 if number else None)
    assert ask(line) == ANSWER
    assert line.now < 4
    assert line.sent[1:] == [(line.sent[1][0], (1, [{}], LATER, True), "one")]


def test_a_request_in_hand_is_not_sent_again_however_long_it_takes(
    ask: Callable[[Line], Any],
) -> None:
    line = Line(lambda number: 28.0, dies=30.0)
    assert ask(line) == ANSWER
    assert line.moments() == [0.0]


def test_a_worker_that_dies_at_work_is_noticed(ask: Callable[[Line], Any]) -> None:
    line = Line(lambda number: 1.0 if number else None, dies=10.0)
    assert ask(line) == ANSWER
    assert 10 < line.moments()[1] < 14


def test_nobody_there_is_three_messages_and_an_end_at_the_deadline(
    ask: Callable[[Line], Any],
) -> None:
    line = Line(lambda number: None)
    with pytest.raises(TookTooLong):
        ask(line)
    assert len(line.sent) == 3
    assert line.moments()[1] >= 2
    assert line.moments()[2] - line.moments()[1] >= 4
    assert line.now == pytest.approx(30.0)
    assert line.removed == 1


def test_the_first_answer_wins_whichever_message_it_is_of(
    ask: Callable[[Line], Any],
) -> None:
    line = Line(lambda number: 5.0 if number == 0 else None)
    assert ask(line) == ANSWER
    assert line.now == 5.0


def test_an_answer_still_comes_if_the_second_message_does_not_go_out(
    ask: Callable[[Line], Any],
) -> None:
    line = Line(lambda number: 4.0 if number == 0 else None)
    line.broken = {1}
    assert ask(line) == ANSWER
    assert len(line.sent) == 2


@contextmanager
def as_message(request: str) -> Iterator[None]:
    predict.push_request(id=request)
    try:
        yield
    finally:
        predict.pop_request()


def test_a_second_message_is_computed_if_the_first_was_lost(
    version: ModelVersion, here: worker.Worker
) -> None:
    with as_message("lost"):
        assert predict.run(version.pk, [{"x": 1}], LATER, True) == ANSWER


def test_a_second_message_is_dropped_while_the_first_is_in_hand(
    version: ModelVersion, here: worker.Worker
) -> None:
    with as_message("long"), in_hand.hold("long"), pytest.raises(Ignore):
        predict.run(version.pk, [{"x": 1}], LATER, True)
    assert tiny.Predictor.batches == []


def test_a_second_message_is_dropped_once_the_first_is_answered(
    version: ModelVersion, here: worker.Worker
) -> None:
    predict.backend.store_result("late", ANSWER, "SUCCESS")
    with as_message("late"), pytest.raises(Ignore):
        predict.run(version.pk, [{"x": 1}], LATER, True)
    assert tiny.Predictor.batches == []


def test_each_sign_is_another_one_and_reaches_who_waits() -> None:
    seen = [predict.sign_of("signed")]
    for _ in range(2):
        predict.give_sign("signed")
        seen.append(predict.sign_of("signed"))
    assert seen[0] is None
    assert len(set(seen)) == 3


def test_signs_are_given_of_what_is_in_hand_only() -> None:
    given: list[str] = []
    held = InHand(given.append)
    with held.hold("a"):
        with held.hold("b"):
            assert "b" in held
            held.give_signs()
        assert "b" not in held
        held.give_signs()
    held.give_signs()
    assert sorted(given) == ["a", "a", "b"]


def test_a_sign_that_cannot_be_given_hurts_no_other() -> None:
    given: list[str] = []

    def sign(request: str) -> None:
        given.append(request)
        raise ConnectionError("gone")

    held = InHand(sign)
    with held.hold("a"), held.hold("b"):
        held.give_signs()
    assert sorted(given) == ["a", "b"]


def test_a_request_that_fails_is_no_longer_in_hand() -> None:
    held = InHand(lambda request: None)
    with pytest.raises(RuntimeError), held.hold("a"):
        raise RuntimeError
    assert "a" not in held
